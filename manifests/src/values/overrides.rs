//! What a person sets for a whole run of a chart that may have more parameters than the README: the README's, which
//! change what is expected too, apart from the others, which are the chart's own. Which of it may be a secret is in
//! [`super::secrets`].

use serde_json::{Map, Value};

use super::error::ValuesError;
use super::input::ValuesInput;
use super::parameters::{find, is_section};
use super::{Values, merge};

/// Values set for a run, on top of those of each trial.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    pub(super) documented: Map<String, Value>,
    pub(super) others: Map<String, Value>,
}

/// What a chart's own `values.yaml` has beyond the README's parameters, by dotted path. A table that the README does not
/// know is told as one.
#[must_use]
pub fn beyond_readme(values: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    if let Value::Object(table) = values {
        collect_undocumented("", table, &mut paths);
    }
    paths
}

fn collect_undocumented(path: &str, table: &Map<String, Value>, found: &mut Vec<String>) {
    for (key, value) in table {
        let below = below(path, key);
        match value {
            _ if find(&below).is_some_and(|parameter| parameter.in_readme) => {}
            Value::Object(inner) if is_section(&below) => collect_undocumented(&below, inner, found),
            _ => found.push(below),
        }
    }
}

impl Overrides {
    /// Takes apart what was given.
    ///
    /// # Errors
    /// A file that is not YAML, or a `--set` outside Helm's grammar.
    pub fn new(input: &ValuesInput) -> Result<Self, ValuesError> {
        let mut others = input.given()?;
        let documented = take_documented("", &mut others);
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
        merge::overlay(tree, Value::Object(self.others.clone()));
    }

    /// The paths of what only the chart knows, for the report.
    #[must_use]
    pub fn others(&self) -> Vec<String> {
        let mut paths = Vec::new();
        leaves("", &self.others, &mut paths);
        paths
    }
}

/// Moves the README's parameters out of a table, which stands at `path`.
fn take_documented(path: &str, table: &mut Map<String, Value>) -> Map<String, Value> {
    let mut documented = Map::new();
    for key in table.keys().cloned().collect::<Vec<_>>() {
        let below = below(path, &key);
        if find(&below).is_some() {
            documented.extend(table.remove(&key).map(|value| (key, value)));
        } else if is_section(&below)
            && let Some(Value::Object(inner)) = table.get_mut(&key)
        {
            let taken = take_documented(&below, inner);
            if inner.is_empty() {
                table.remove(&key);
            }
            if !taken.is_empty() {
                documented.insert(key, Value::Object(taken));
            }
        }
    }
    documented
}

fn leaves(path: &str, table: &Map<String, Value>, found: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::Object(inner) => leaves(&below(path, key), inner, found),
            _ => found.push(below(path, key)),
        }
    }
}

pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
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
        assert_eq!(overrides.others(), ["metrics.enabled", "cluster.own"]);
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
    fn what_a_chart_has_beyond_the_readme_is_listed_by_path() {
        let values = json!({"mode": "standalone", "metrics": {"enabled": false, "port": 9121},
            "securityContext": {"runAsUser": 1, "fsGroupChangePolicy": "Always"}, "podLabels": {"own": "x"},
            "auth": {"password": "", "usePasswordFiles": false}});
        assert_eq!(
            beyond_readme(&values),
            [
                "metrics",
                "securityContext.fsGroupChangePolicy",
                "auth.usePasswordFiles"
            ]
        );
        assert_eq!(beyond_readme(&Value::Null), [""; 0]);
    }

    #[test]
    fn what_the_readme_forbids_is_refused_here_too() {
        let input = ValuesInput::new().set("mode=clustr,own=1");
        let overrides = Overrides::new(&input).expect("well-formed");
        assert!(overrides.apply(&Values::default()).is_err());
    }
}
