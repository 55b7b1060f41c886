//! Types: an object is stored as JSON, but only after it has passed through its k8s-openapi type.
//!
//! The round trip refuses wrong types and drops fields that the type does not have. For strict
//! field validation, [`unknown_fields`] names the dropped fields.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Fields of `metadata` that Kubernetes leaves out when they are empty. Labelling and unlabelling
/// an object therefore restores it exactly.
const OMITTED_WHEN_EMPTY: [&str; 4] = ["annotations", "finalizers", "labels", "ownerReferences"];

/// A field that has the wrong type.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub(crate) struct TypedError {
    pub(crate) path: String,
    pub(crate) message: String,
}

/// Deserialises into `T` and back.
pub(crate) fn round_trip<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, TypedError> {
    // Tracking the path doubles the cost, and only a refusal needs it.
    let typed = T::deserialize(value).or_else(|_| serde_path_to_error::deserialize(value));
    let typed = typed.map_err(|error| TypedError {
        path: error.path().to_string(),
        message: error.inner().to_string(),
    })?;
    let mut kept = serde_json::to_value(typed).map_err(|error| TypedError {
        path: String::new(),
        message: error.to_string(),
    })?;
    if let Some(metadata) = kept.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, value| !OMITTED_WHEN_EMPTY.contains(&key.as_str()) || !is_empty(value));
    }
    Ok(kept)
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Returns the paths of `given`'s fields that `kept` lacks, as Kubernetes writes them.
pub(crate) fn unknown_fields(given: &Value, kept: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", given, kept, &mut found);
    found
}

fn walk(path: &str, given: &Value, kept: &Value, found: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                match kept.get(key) {
                    Some(other) => walk(&path, value, other, found),
                    None if value.is_null() => {}
                    None if path.starts_with("metadata.") && is_empty(value) => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            for (index, (value, other)) in given.iter().zip(kept).enumerate() {
                walk(&format!("{path}[{index}]"), value, other, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_are_dropped_and_named() {
        let given = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "imagee": "x"}], "hostnam": "y"}});
        let kept = round_trip::<Pod>(&given).expect("types are right");
        assert_eq!(
            unknown_fields(&given, &kept),
            ["spec.containers[0].imagee", "spec.hostnam"]
        );
        assert!(kept["spec"].get("hostnam").is_none());
    }

    #[test]
    fn labels_and_the_like_are_left_out_when_there_are_none() {
        let given = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {}, "annotations": {},
            "finalizers": [], "ownerReferences": []}, "spec": {"containers": [], "nodeSelector": {}}});
        let kept = round_trip::<Pod>(&given).expect("types are right");
        assert_eq!(kept["metadata"], json!({"name": "a"}));
        assert_eq!(unknown_fields(&given, &kept), [""; 0]);
    }

    #[test]
    fn a_wrong_type_names_its_path() {
        let given = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"containers": "x"}});
        let error = round_trip::<Pod>(&given).expect_err("containers is a list");
        assert_eq!(error.path, "spec.containers");
    }
}
