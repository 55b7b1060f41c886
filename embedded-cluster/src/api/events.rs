//! Events have two APIs, `v1` and `events.k8s.io/v1`, over one storage, which is in the `v1` form.

use serde_json::{Value, json};

use super::kinds::ResourceKind;
use super::object;

/// Field names that differ: `v1` on the left.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Converts an object from the API of `kind` to its stored form.
pub(crate) fn to_stored(kind: &ResourceKind, value: Value) -> Value {
    if !kind.is_events_v1() {
        return value;
    }
    rename(value, "v1", |name| {
        RENAMED
            .iter()
            .find(|(_, new)| *new == name)
            .map(|(core, _)| *core)
    })
}

/// Converts a stored object to the form that the API of `kind` shows.
pub(crate) fn to_served(kind: &ResourceKind, value: Value) -> Value {
    if !kind.is_events_v1() {
        return value;
    }
    rename(value, "events.k8s.io/v1", |name| {
        RENAMED
            .iter()
            .find(|(core, _)| *core == name)
            .map(|(_, new)| *new)
    })
}

fn rename(value: Value, api_version: &str, new_name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(map) = value else { return value };
    let mut renamed = json!({"kind": "Event", "apiVersion": api_version});
    for (key, value) in map {
        if key == "series" {
            renamed["series"] = value;
        } else if key != "kind" && key != "apiVersion" {
            renamed[new_name(&key).unwrap_or(&key)] = value;
        }
    }
    renamed
}

/// Returns the time of an event. The newer API requires `eventTime`; older clients only set
/// `firstTimestamp`.
pub(crate) fn occurred_at(event: &Value) -> &str {
    ["lastTimestamp", "eventTime", "firstTimestamp"]
        .iter()
        .map(|key| object::text(event, &[key]))
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| object::text(event, &["metadata", "creationTimestamp"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::find;

    #[test]
    fn both_forms_are_one_event() {
        let kind = find("events.k8s.io", "v1", "events").expect("served");
        let new = json!({"kind": "Event", "apiVersion": "events.k8s.io/v1", "note": "n", "regarding": {"name": "p"},
            "type": "Normal"});
        let stored = to_stored(kind, new.clone());
        assert_eq!(stored["message"], "n");
        assert_eq!(stored["involvedObject"]["name"], "p");
        assert_eq!(to_served(kind, stored), new);
    }
}
