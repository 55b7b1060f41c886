//! Our parameters that the chart's `values.schema.json` refuses. A parameter that only makes a run
//! faster is left out. A trial that depends on a refused parameter is not judged. Schemas have many
//! dialects, so `helm` itself is asked about one parameter at a time.

use std::sync::{Arc, PoisonError};

use manifests::values::chart_values::{Leaf, leaves, overlay};
use serde_json::{Value, json};

use super::Chart;
use super::error::ChartError;
use super::values::HelmValues;

/// Parameters that select the deployment. A trial without them would be a different one.
const ESSENTIAL: [&str; 2] = ["mode", "image.variant"];

impl Chart {
    /// Returns `layer` without the values that the schema is known to refuse.
    pub(super) fn taken(&self, layer: Value) -> Value {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_empty() {
            return layer;
        }
        let taken = leaves(&layer)
            .into_iter()
            .filter(|leaf| !refused.contains(&leaf.parameter()));
        joined(taken)
    }

    /// Renders again without our defaults that the schema refuses. `refusal` is the error of the
    /// rendering with all values.
    pub(super) async fn without_refused(
        &self,
        release: &str,
        namespace: &str,
        [before, after]: [Value; 2],
        refusal: ChartError,
    ) -> Result<(HelmValues, Vec<Value>), ChartError> {
        // The schema refuses the user's own values too, so helm's message is the best error.
        if self.refuses(release, namespace, &json!({})).await? {
            return Err(refusal);
        }
        let mut wanted = Vec::new();
        for (leaf, optional) in leaves(&before)
            .into_iter()
            .map(|leaf| (leaf, true))
            .chain(leaves(&after).into_iter().map(|leaf| (leaf, false)))
        {
            if !self.refuses(release, namespace, &leaf.tree()).await? {
                continue;
            }
            let parameter = leaf.parameter();
            if optional && !ESSENTIAL.contains(&parameter.as_str()) {
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                refused.insert(parameter);
            } else {
                wanted.push(parameter);
            }
        }
        if !wanted.is_empty() {
            return Err(ChartError::NotTaken { parameters: wanted });
        }
        let before = self.taken(before);
        let values = HelmValues::write(&before, &self.user, &after, &self.trees.set)?;
        let objects = self.run_template(release, namespace, &values).await?;
        Ok((values, objects))
    }

    async fn refuses(&self, release: &str, namespace: &str, tree: &Value) -> Result<bool, ChartError> {
        let values = HelmValues::write(tree, &Arc::clone(&self.user), &json!({}), &json!({}))?;
        match self.run_template(release, namespace, &values).await {
            Err(error) if error.is_of_the_schema() => Ok(true),
            Err(error) if error.is_environment() => Err(error),
            // Any other error with this single value means that the schema accepts it.
            _ => Ok(false),
        }
    }
}

fn joined(leaves: impl Iterator<Item = Leaf>) -> Value {
    let mut tree = json!({});
    for leaf in leaves {
        overlay(&mut tree, leaf.tree());
    }
    tree
}
