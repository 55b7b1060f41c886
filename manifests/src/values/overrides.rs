//! What a person sets for a whole run of a chart that may have more parameters than the README: the README's, which
//! change what is expected too, apart from the others, which are the chart's own.

use serde_json::{Map, Value};

use super::error::ValuesError;
use super::input::ValuesInput;
use super::parameters::{find, is_section};
use super::{Values, merge};

/// Values set for a run, on top of those of each trial.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    documented: Value,
    others: Value,
}

impl Overrides {
    /// Takes apart what was given.
    ///
    /// # Errors
    /// A file that is not YAML, or a `--set` outside Helm's grammar.
    pub fn new(input: &ValuesInput) -> Result<Self, ValuesError> {
        let mut others = input.given()?;
        let documented = take_documented("", &mut others).unwrap_or_else(|| Value::Object(Map::new()));
        Ok(Self { documented, others })
    }

    /// `values` with the README's parameters as they were set.
    ///
    /// # Errors
    /// All problems of all parameters at once.
    pub fn apply(&self, values: &Values) -> Result<Values, ValuesError> {
        super::input::resolve_over(values, self.documented.clone())
    }

    /// Lays what only the chart knows over a tree of values for it.
    pub fn extend(&self, tree: &mut Value) {
        if self.others.is_object() {
            merge::overlay(tree, self.others.clone());
        }
    }

    /// The paths of what only the chart knows, for the report.
    #[must_use]
    pub fn others(&self) -> Vec<String> {
        let mut paths = Vec::new();
        leaves("", &self.others, &mut paths);
        paths
    }
}

/// Moves the README's parameters out of `value`, which stands at `path`.
fn take_documented(path: &str, value: &mut Value) -> Option<Value> {
    let Value::Object(map) = value else {
        return None;
    };
    let mut documented = Map::new();
    for key in map.keys().cloned().collect::<Vec<_>>() {
        let below = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        if find(&below).is_some() {
            documented.extend(map.remove(&key).map(|value| (key, value)));
        } else if is_section(&below)
            && let Some(inner) = map.get_mut(&key)
        {
            let taken = take_documented(&below, inner);
            if inner.as_object().is_some_and(Map::is_empty) {
                map.remove(&key);
            }
            documented.extend(taken.map(|taken| (key, taken)));
        }
    }
    (!documented.is_empty()).then_some(Value::Object(documented))
}

fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let below = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(&below, value, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_readmes_parameters_are_told_from_the_charts_own() {
        let input = ValuesInput::new()
            .file("f", "metrics: {enabled: true}\ncluster: {replicas: 8, own: 1}\n")
            .set("securityContext.fsGroupChangePolicy=Always,mode=cluster");
        let overrides = Overrides::new(&input).expect("well-formed");
        assert_eq!(overrides.others(), ["cluster.own", "metrics.enabled"]);
        let values = overrides.apply(&Values::default()).expect("valid");
        assert_eq!(values.cluster.replicas, 8);
        assert_eq!(
            values.security_context.fs_group_change_policy.as_deref(),
            Some("Always")
        );
        let mut tree = json!({"cluster": {"replicas": 8}});
        overrides.extend(&mut tree);
        assert_eq!(
            tree,
            json!({"cluster": {"replicas": 8, "own": 1}, "metrics": {"enabled": true}})
        );
    }

    #[test]
    fn what_the_readme_forbids_is_refused_here_too() {
        let input = ValuesInput::new().set("mode=clustr,own=1");
        let overrides = Overrides::new(&input).expect("well-formed");
        assert!(overrides.apply(&Values::default()).is_err());
    }
}
