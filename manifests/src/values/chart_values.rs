//! Reads the values of another chart as the README's parameters. Such a chart may lack parameters,
//! have others, and accept values that our manifests refuse. Nothing is refused here, because Helm
//! gets the user's values unchanged.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::error::ValueError;
use super::kind::ValueKind;
use super::parameters::{PARAMETERS, find, is_section};
use super::{Values, merge};

/// The README's parameters in the values of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct ChartValues {
    /// The parameters' values; the README's default where the chart has no fitting value.
    pub values: Values,
    /// The README's parameters that the chart does not have, by dotted path.
    pub missing: BTreeSet<&'static str>,
    /// Values that our own manifests would refuse. The chart may take them.
    pub misfits: Vec<ValueError>,
}

impl ChartValues {
    /// Reads `tree`, Helm's merge of all given values. A parameter in `own`, the chart's
    /// `values.yaml`, but not in `tree` was unset with `null`.
    ///
    /// # Panics
    /// Never: every value is checked against the type before it is read.
    #[must_use]
    pub fn read(tree: &Value, own: &Value) -> Self {
        let mut read = serde_json::to_value(Values::default()).expect("values are plain JSON");
        let (mut missing, mut misfits) = (BTreeSet::new(), Vec::new());
        for parameter in PARAMETERS {
            let pointer = pointer(parameter.path);
            let Some(place) = read.pointer_mut(&pointer) else {
                continue;
            };
            let mut given = tree.pointer(&pointer).filter(|value| !value.is_null()).cloned();
            if given.is_none() && own.pointer(&pointer).is_some() {
                given = parameter.kind.unset();
            }
            match given {
                Some(mut value) => {
                    parameter.kind.normalise(&mut value);
                    let problems = parameter.kind.problems(parameter.path, &value);
                    if problems.is_empty() || fits_the_type(parameter.kind, &value) {
                        *place = value;
                    }
                    misfits.extend(problems);
                }
                None if parameter.in_readme => {
                    missing.insert(parameter.path);
                }
                None => {}
            }
        }
        let values = serde_json::from_value(read).unwrap_or_default();
        Self {
            values,
            missing,
            misfits,
        }
    }
}

/// Returns true if a value can be kept as text although our own manifests would refuse it. Examples
/// are a password that the entrypoint would split, and a directive that we set ourselves.
fn fits_the_type(kind: ValueKind, value: &Value) -> bool {
    let free = matches!(
        kind,
        ValueKind::Password
            | ValueKind::Flags
            | ValueKind::Text
            | ValueKind::Addresses
            | ValueKind::ImageTag
            | ValueKind::ImageRepository
    );
    free && value.is_string()
}

fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

/// Returns the smallest overlay that turns `base` into `wanted`; `null` deletes an entry.
///
/// # Panics
/// Never: values are plain JSON.
#[must_use]
pub fn layer(base: &Values, wanted: &Values) -> Value {
    let tree = |values: &Values| serde_json::to_value(values).expect("values are plain JSON");
    layer_of_trees(&tree(base), &tree(wanted))
}

/// Works like [`layer`], for trees.
#[must_use]
pub fn layer_of_trees(base: &Value, wanted: &Value) -> Value {
    let (Value::Object(base), Value::Object(wanted)) = (base, wanted) else {
        return wanted.clone();
    };
    let mut layer = Map::new();
    for (key, value) in wanted {
        match base.get(key) {
            Some(before) if before == value => {}
            Some(before) if before.is_object() && value.is_object() => {
                layer.insert(key.clone(), layer_of_trees(before, value));
            }
            _ => {
                layer.insert(key.clone(), value.clone());
            }
        }
    }
    for key in base.keys().filter(|key| !wanted.contains_key(*key)) {
        layer.insert(key.clone(), Value::Null);
    }
    Value::Object(layer)
}

/// Lays `over` over `under` by Helm's rule; a `null` stays as a mark of deletion.
pub fn overlay(under: &mut Value, over: Value) {
    merge::overlay(under, over);
}

/// A value of a tree that is not a table, with the keys that lead to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// The keys, outermost first. A key may contain dots.
    pub keys: Vec<String>,
    /// The value, which may be an empty table.
    pub value: Value,
}

impl Leaf {
    /// Returns the README's parameter that the value belongs to, or the dotted path.
    #[must_use]
    pub fn parameter(&self) -> String {
        let prefixes = (1..=self.keys.len()).map(|end| self.keys[..end].join("."));
        let known = prefixes
            .clone()
            .find(|path| find(path).is_some_and(|parameter| parameter.in_readme));
        known.unwrap_or_else(|| self.keys.join("."))
    }

    /// Returns a tree with only this value.
    #[must_use]
    pub fn tree(&self) -> Value {
        let nest = |inner: Value, key: &String| Value::Object(Map::from_iter([(key.clone(), inner)]));
        self.keys.iter().rev().fold(self.value.clone(), nest)
    }
}

/// Returns every leaf of a tree, in order.
#[must_use]
pub fn leaves(tree: &Value) -> Vec<Leaf> {
    let mut found = Vec::new();
    collect_leaves(&mut Vec::new(), tree, &mut found);
    found
}

fn collect_leaves(keys: &mut Vec<String>, value: &Value, found: &mut Vec<Leaf>) {
    match value {
        Value::Object(table) if !table.is_empty() || keys.is_empty() => {
            for (key, value) in table {
                keys.push(key.clone());
                collect_leaves(keys, value, found);
                keys.pop();
            }
        }
        _ => found.push(Leaf {
            keys: keys.clone(),
            value: value.clone(),
        }),
    }
}

/// Returns the part of `given` that the README does not know: the chart's own parameters.
#[must_use]
pub fn undocumented(given: &Value) -> Value {
    let mut others = given.as_object().cloned().unwrap_or_default();
    take_documented("", &mut others);
    Value::Object(others)
}

/// Returns the dotted paths in a chart's `values.yaml` that the README does not have. An unknown
/// table counts as one path.
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

/// Removes the README's parameters from the table at `path`.
fn take_documented(path: &str, table: &mut Map<String, Value>) {
    for key in table.keys().cloned().collect::<Vec<_>>() {
        let below = below(path, &key);
        if find(&below).is_some() {
            table.remove(&key);
        } else if is_section(&below)
            && let Some(Value::Object(inner)) = table.get_mut(&key)
        {
            take_documented(&below, inner);
            if inner.is_empty() {
                table.remove(&key);
            }
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
    use crate::Mode;

    #[test]
    fn parameters_are_read_and_missing_ones_named() {
        let own = json!({"mode": "cluster", "cluster": {"replicas": 9}, "config": {"bind": "::"},
            "securityContext": {"fsGroup": 5, "fsGroupChangePolicy": "Always"}, "metrics": {"enabled": true}});
        let mut given = own.clone();
        given["config"] = json!({});
        let read = ChartValues::read(&given, &own);
        assert_eq!(read.values.mode, Mode::Cluster);
        assert_eq!(read.values.cluster.replicas, 9);
        assert_eq!(read.values.config.bind, "", "unset with null");
        assert_eq!(read.values.security_context.run_as_user, None);
        assert_eq!(read.values.security_context.fs_group, Some(5));
        assert!(read.missing.contains("rbac.create") && !read.missing.contains("cluster.replicas"));
        assert_eq!(read.misfits, []);
    }

    #[test]
    fn what_our_manifests_refuse_is_told_and_kept_where_it_is_text() {
        let own = serde_json::to_value(Values::default()).expect("JSON");
        let mut given = own.clone();
        given["auth"]["password"] = json!("two words");
        given["cluster"]["replicas"] = json!("many");
        let read = ChartValues::read(&given, &own);
        assert_eq!(read.values.auth.password, "two words");
        assert_eq!(read.values.cluster.replicas, 6);
        let told: Vec<_> = read.misfits.iter().map(ValueError::path).collect();
        assert_eq!(told, ["auth.password", "cluster.replicas"]);
    }

    #[test]
    fn a_layer_has_what_differs_and_nothing_else() {
        let base = Values::default();
        assert_eq!(layer(&base, &base), json!({}));
        let mut wanted = base.clone();
        wanted.cluster.replicas = 8;
        wanted.security_context.run_as_user = None;
        wanted.pod_annotations.insert("a.b/c".to_owned(), "x".to_owned());
        let layer = layer(&base, &wanted);
        let expected = json!({"cluster": {"replicas": 8}, "podAnnotations": {"a.b/c": "x"},
            "securityContext": {"runAsUser": null}});
        assert_eq!(layer, expected);
        let parameters: BTreeSet<String> = leaves(&layer).iter().map(Leaf::parameter).collect();
        let names = ["cluster.replicas", "podAnnotations", "securityContext.runAsUser"];
        assert_eq!(parameters, BTreeSet::from(names.map(str::to_owned)));
        for leaf in leaves(&layer) {
            assert_eq!(leaves(&leaf.tree()), [leaf]);
        }
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
        let others =
            json!({"metrics": {"enabled": false, "port": 9121}, "auth": {"usePasswordFiles": false}});
        assert_eq!(undocumented(&values), others);
    }
}
