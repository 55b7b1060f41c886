//! Reading and writing the parts of an object that every kind has.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Returns the text at a path of field names; `""` when it is absent or not a string.
pub(crate) fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the value at a path of field names.
pub(crate) fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// Returns the list at a path of field names; empty when absent.
pub(crate) fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Returns `metadata.name`.
pub(crate) fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

/// Returns `metadata.namespace`; empty for cluster-scoped objects.
pub(crate) fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

/// Returns `metadata.uid`.
pub(crate) fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

/// Returns `metadata`, and creates it when it is missing.
pub(crate) fn meta_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(object, "metadata")
}

/// Returns an object-valued field. Creates it when it is missing, and replaces any other value.
pub(crate) fn child_mut<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let child = &mut object[key];
    if !child.is_object() {
        *child = json!({});
    }
    child.as_object_mut().expect("made an object above")
}

/// Removes a field and keeps the order of the others.
pub(crate) fn remove(object: &mut Value, key: &str) -> Option<Value> {
    object.as_object_mut().and_then(|map| map.shift_remove(key))
}

/// Copies a field from another object, or removes the field when the other object has none.
pub(crate) fn copy_field(to: &mut Value, from: &Value, key: &str) {
    match from.get(key) {
        Some(value) => to[key] = value.clone(),
        None => drop(remove(to, key)),
    }
}

/// Returns true if the value nests deeper than `limit` levels.
pub(crate) fn is_deeper_than(value: &Value, limit: usize) -> bool {
    let below = |value: &Value| limit == 0 || is_deeper_than(value, limit - 1);
    match value {
        Value::Array(list) => list.iter().any(below),
        Value::Object(map) => map.values().any(below),
        _ => false,
    }
}

/// Returns the approximate length of the value as JSON, in bytes.
pub(crate) fn text_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(list) => 2 + list.iter().map(|element| text_size(element) + 1).sum::<usize>(),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| key.len() + 4 + text_size(value);
            2 + map.iter().map(entry).sum::<usize>()
        }
        _ => 8,
    }
}

/// Returns true if the object is being deleted.
pub(crate) fn is_terminating(object: &Value) -> bool {
    at(object, &["metadata", "deletionTimestamp"]).is_some()
}

/// Returns `metadata.finalizers`.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    list(object, &["metadata", "finalizers"])
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

/// Formats a moment as Kubernetes writes it: RFC 3339 in whole seconds.
pub(crate) fn timestamp(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns the current moment as Kubernetes writes it.
pub(crate) fn now() -> String {
    timestamp(Timestamp::now())
}
