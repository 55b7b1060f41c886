//! Parts of values that Kubernetes defines, read into the API's types without losing fields.
//!
//! k8s-openapi ignores unknown fields, so a misspelt one would vanish. Reading a value and writing
//! it back shows the lost fields.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Returns the part that does not fit type `T`: the dotted path below `value` and the reason.
pub(super) fn misfit<T: Serialize + DeserializeOwned>(value: &Value) -> Option<(String, String)> {
    let typed: T = match serde_json::from_value(value.clone()) {
        Ok(typed) => typed,
        Err(error) => return Some((String::new(), error.to_string())),
    };
    let written = serde_json::to_value(typed).expect("Kubernetes types are plain JSON");
    lost(value, &written).map(|path| (path, "no such field".to_owned()))
}

/// Returns the first path that `given` has and `kept` lacks.
fn lost(given: &Value, kept: &Value) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), kept) => given.iter().find_map(|(key, value)| match kept.get(key) {
            None if value.is_null() => None,
            None => Some(format!(".{key}")),
            Some(kept) => lost(value, kept).map(|rest| format!(".{key}{rest}")),
        }),
        (Value::Array(given), Value::Array(kept)) => given
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(index, (given, kept))| lost(given, kept).map(|rest| format!("[{index}]{rest}"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Affinity, Toleration};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_misspelt_field_is_found_at_any_depth() {
        let value = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelectr": {}}}]}});
        let (path, _) = misfit::<Affinity>(&value).expect("labelSelectr does not exist");
        assert_eq!(
            path,
            ".podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelectr"
        );
    }

    #[test]
    fn a_correct_value_fits() {
        let value =
            json!([{"key": "dedicated", "operator": "Equal", "value": "valkey", "effect": "NoSchedule"}]);
        assert_eq!(misfit::<Vec<Toleration>>(&value), None);
    }
}
