//! Upgrade changes that Kubernetes rejects. The API server names only the kind; this module finds
//! the field, and its old and new value.

use std::fmt;

use serde_json::Value;

use super::bundle::Bundle;

/// The changeable fields of a StatefulSet's spec (Kubernetes 1.35, `ValidateStatefulSetUpdate`).
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// An immutable field that an upgrade changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImmutableChange {
    /// Kind and name of the object.
    pub object: String,
    /// The field's path.
    pub field: String,
    /// The previous value, as JSON.
    pub before: String,
    /// The new value.
    pub after: String,
}

impl fmt::Display for ImmutableChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            field,
            before,
            after,
        } = self;
        write!(f, "{field} of {object}: {before} -> {after}")
    }
}

/// Lists every immutable field that changes between two revisions.
pub fn changes(before: &Bundle, after: &Bundle) -> Vec<ImmutableChange> {
    let mut found = Vec::new();
    for new in &after.resources {
        let Some(old) = before.find(new) else { continue };
        let (old, new_data) = (&old.content.data["spec"], &new.content.data["spec"]);
        let fixed = |key: &str| match new.kind() {
            "StatefulSet" => !CHANGEABLE.contains(&key),
            "Job" => matches!(key, "selector" | "template" | "completionMode"),
            _ => false,
        };
        let keys = [old, new_data].into_iter().filter_map(Value::as_object);
        let mut keys: Vec<&String> = keys
            .flat_map(|spec| spec.keys())
            .filter(|key| fixed(key))
            .collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let mut add = |field: &str, before: &Value, after: &Value| {
                found.push(ImmutableChange {
                    object: format!("{} {}", new.kind(), new.name()),
                    field: format!("spec.{key}{field}"),
                    before: before.to_string(),
                    after: after.to_string(),
                });
            };
            compare("", &old[key.as_str()], &new_data[key.as_str()], &mut add);
        }
    }
    found
}

fn compare(path: &str, old: &Value, new: &Value, add: &mut dyn FnMut(&str, &Value, &Value)) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(before), Value::Object(after)) => {
            let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                compare(
                    &format!("{path}.{key}"),
                    &old[key.as_str()],
                    &new[key.as_str()],
                    add,
                );
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (old, new)) in before.iter().zip(after).enumerate() {
                compare(&format!("{path}[{index}]"), old, new, add);
            }
        }
        _ => add(path, old, new),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(version: &str, replicas: u32) -> Bundle {
        let claim = json!({"metadata": {"name": "data", "labels": {"helm.sh/chart": version}}});
        Bundle::from_values([
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "vk"},
            "spec": {"replicas": replicas, "template": {"metadata": {"labels": {"helm.sh/chart": version}}},
                "volumeClaimTemplates": [claim]}}),
        ])
        .unwrap()
    }

    #[test]
    fn an_immutable_claim_label_is_named_and_mutable_fields_are_not() {
        let found: Vec<String> = changes(&set("x-1", 6), &set("x-2", 8))
            .iter()
            .map(ToString::to_string)
            .collect();
        let expected = "spec.volumeClaimTemplates[0].metadata.labels.helm.sh/chart of StatefulSet vk: \"x-1\" -> \"x-2\"";
        assert_eq!(found, [expected]);
        assert_eq!(changes(&set("x-1", 6), &set("x-1", 8)), []);
    }
}
