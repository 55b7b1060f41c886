//! Helm's rule for laying values over values. Tables merge key by key, and other values are
//! replaced. A `null` deletes a key, even a default.

use serde_json::{Map, Value};

use super::parameters::{find, is_section};

/// Lays `over` over `under`. A `null` stays, because it also deletes the key in the defaults below.
pub(super) fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                match under.get_mut(&key) {
                    Some(existing) => overlay(existing, value),
                    None => {
                        under.insert(key, value);
                    }
                }
            }
        }
        (under, over) => *under = over,
    }
}

/// Deletes what `null` marks. A parameter becomes the value that the chart's templates take for
/// unset. An entry of a free map is removed. A parameter that cannot be unset keeps its `null`,
/// which validation refuses.
pub(super) fn delete_nulls(tree: &mut Value) {
    if let Value::Object(map) = tree {
        delete_below("", map);
    }
}

fn delete_below(path: &str, map: &mut Map<String, Value>) {
    map.retain(|key, value| {
        let below = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let parameter = find(&below);
        match value {
            Value::Null => match parameter {
                Some(parameter) if parameter.in_readme || !is_section(&below) => {
                    if let Some(unset) = parameter.kind.unset() {
                        *value = unset;
                    } else if below.ends_with("successThreshold") {
                        return false;
                    }
                    true
                }
                // The key is in a free map, or in a table that Kubernetes defines.
                _ => is_section(&below),
            },
            Value::Object(inner) => {
                delete_below(&below, inner);
                true
            }
            _ => true,
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_merge_and_lists_are_replaced() {
        let mut tree = json!({"a": {"x": 1, "y": [1, 2]}, "b": 1});
        overlay(&mut tree, json!({"a": {"y": [3]}, "c": 2}));
        assert_eq!(tree, json!({"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}));
    }

    #[test]
    fn null_unsets_a_default_and_drops_an_entry() {
        let mut tree =
            json!({"config": {"bind": null}, "podLabels": {"a": null, "b": "1"}, "tolerations": null});
        delete_nulls(&mut tree);
        assert_eq!(
            tree,
            json!({"config": {"bind": ""}, "podLabels": {"b": "1"}, "tolerations": []})
        );
    }

    #[test]
    fn null_where_a_value_is_needed_is_left_for_validation() {
        let mut tree = json!({"cluster": {"replicas": null}, "image": null});
        delete_nulls(&mut tree);
        assert_eq!(tree, json!({"cluster": {"replicas": null}, "image": null}));
    }
}
