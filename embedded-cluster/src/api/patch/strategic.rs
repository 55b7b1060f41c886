//! Strategic merge patches: like merge patches, but lists of named things are merged element by
//! element.
//!
//! Rules: Kubernetes' `sig-api-machinery/strategic-merge-patch.md`, with its directives `$patch`,
//! `$deleteFromPrimitiveList/…`, `$setElementOrder/…` and `$retainKeys`.

use serde_json::{Map, Value};

use crate::api::object::remove;
use crate::api::status::ApiError;

/// The merge rule of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListMerge {
    /// The patch's list replaces the old one.
    Atomic,
    /// Elements are objects, identified by this field.
    ByKey(&'static str),
    /// Elements are scalars, each present once.
    Set,
}

/// Returns the `patchMergeKey` of a list, by its path's last two field names. The parent
/// distinguishes two lists of one name, such as container and service ports.
fn list_merge(parent: &str, field: &str) -> ListMerge {
    match (parent, field) {
        ("metadata", "finalizers") => ListMerge::Set,
        ("metadata", "ownerReferences") => ListMerge::ByKey("uid"),
        ("status", "podIPs" | "hostIPs") => ListMerge::ByKey("ip"),
        ("status", "addresses") => ListMerge::ByKey("type"),
        ("" | "secrets", "secrets") | (_, "imagePullSecrets") => ListMerge::ByKey("name"),
        ("containers" | "initContainers" | "ephemeralContainers", "ports") => {
            ListMerge::ByKey("containerPort")
        }
        ("containers" | "initContainers" | "ephemeralContainers", "env") => ListMerge::ByKey("name"),
        ("spec", "ports") => ListMerge::ByKey("port"),
        ("spec", "containers" | "initContainers" | "ephemeralContainers" | "volumes") => {
            ListMerge::ByKey("name")
        }
        (_, "volumeMounts") => ListMerge::ByKey("mountPath"),
        (_, "volumeDevices") => ListMerge::ByKey("devicePath"),
        ("spec", "hostAliases") => ListMerge::ByKey("ip"),
        ("spec", "topologySpreadConstraints") => ListMerge::ByKey("topologyKey"),
        ("spec", "resourceClaims") => ListMerge::ByKey("name"),
        ("status", "conditions") => ListMerge::ByKey("type"),
        ("projected", _) | (_, "items" | "volumeClaimTemplates" | "tolerations" | "containerStatuses") => {
            ListMerge::Atomic
        }
        _ => ListMerge::Atomic,
    }
}

/// Applies a strategic merge patch.
pub(crate) fn strategic_patch_onto(mut base: Value, patch: &Value) -> Result<Value, ApiError> {
    merge_value(&mut base, patch, "", "")?;
    Ok(base)
}

fn merge_value(base: &mut Value, patch: &Value, parent: &str, field: &str) -> Result<(), ApiError> {
    match (&mut *base, patch) {
        (Value::Object(_), Value::Object(patch)) => merge_object(base, patch, field),
        (_, Value::Object(patch)) => {
            *base = Value::Object(Map::new());
            merge_object(base, patch, field)
        }
        (Value::Array(old), Value::Array(new)) => merge_list(old, new, list_merge(parent, field), field),
        (_, Value::Array(new)) => {
            let mut list = Vec::new();
            merge_list(&mut list, new, list_merge(parent, field), field)?;
            *base = Value::Array(list);
            Ok(())
        }
        _ => {
            *base = patch.clone();
            Ok(())
        }
    }
}

fn merge_object(base: &mut Value, patch: &Map<String, Value>, name: &str) -> Result<(), ApiError> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            let mut kept = patch.clone();
            kept.shift_remove("$patch");
            *base = Value::Object(kept);
            return Ok(());
        }
        Some("delete") => {
            *base = Value::Object(Map::new());
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(bad(format!("Unknown patch type: {other}"))),
    }
    if let Some(retained) = patch.get("$retainKeys").and_then(Value::as_array)
        && let Some(map) = base.as_object_mut()
    {
        map.retain(|key, _| retained.iter().any(|name| name == key));
    }
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        if value.is_null() {
            remove(base, key);
        } else {
            merge_value(&mut base[key.as_str()], value, name, key)?;
        }
    }
    directives(base, patch, name)
}

/// Applies the directives that stand next to the list they name.
fn directives(base: &mut Value, patch: &Map<String, Value>, parent: &str) -> Result<(), ApiError> {
    for (key, value) in patch {
        let list = value.as_array().map(Vec::as_slice);
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = list.ok_or_else(|| bad(format!("{key} must be a list")))?;
            if let Some(old) = base.get_mut(field).and_then(Value::as_array_mut) {
                old.retain(|element| !gone.contains(element));
            }
        }
        if let Some(field) = key.strip_prefix("$setElementOrder/") {
            let order = list.ok_or_else(|| bad(format!("{key} must be a list")))?;
            if let Some(old) = base.get_mut(field).and_then(Value::as_array_mut) {
                reorder(old, order, list_merge(parent, field));
            }
        }
    }
    Ok(())
}

fn merge_list(old: &mut Vec<Value>, new: &[Value], how: ListMerge, field: &str) -> Result<(), ApiError> {
    let replaces = |element: &Value| element.get("$patch").is_some_and(|p| p == "replace");
    if how != ListMerge::Atomic && new.iter().any(replaces) {
        *old = new.iter().filter(|element| !replaces(element)).cloned().collect();
        return Ok(());
    }
    match how {
        ListMerge::Atomic => *old = new.to_vec(),
        ListMerge::Set => {
            for element in new {
                if !old.contains(element) {
                    old.push(element.clone());
                }
            }
        }
        ListMerge::ByKey(key) => {
            for element in new {
                merge_element(old, element, key, field)?;
            }
        }
    }
    Ok(())
}

fn merge_element(old: &mut Vec<Value>, element: &Value, key: &str, field: &str) -> Result<(), ApiError> {
    let id = element.get(key).ok_or_else(|| {
        bad(format!(
            "map: {element} does not contain declared merge key: {key} (in list {field})"
        ))
    })?;
    if element.get("$patch").is_some_and(|p| p == "delete") {
        old.retain(|existing| existing.get(key) != Some(id));
        return Ok(());
    }
    if let Some(existing) = old
        .iter_mut()
        .find(|existing| same_element(existing, element, key))
    {
        return merge_value(existing, element, "", field);
    }
    let mut added = Value::Object(Map::new());
    merge_value(&mut added, element, "", field)?;
    old.push(added);
    Ok(())
}

/// Returns true if the elements have the same key. Ports are distinguished by their number alone,
/// as in Kubernetes, unless both name a protocol. TCP and UDP on one number are therefore two
/// ports. Kubernetes itself loses one of them, which is a known trap.
fn same_element(existing: &Value, element: &Value, key: &str) -> bool {
    let protocol_differs = matches!(key, "containerPort" | "port")
        && matches!((existing.get("protocol"), element.get("protocol")), (Some(a), Some(b)) if a != b);
    existing.get(key) == element.get(key) && !protocol_differs
}

/// Sorts the elements named in `order` to the front, in that order. The others keep their order
/// after them.
fn reorder(old: &mut [Value], order: &[Value], how: ListMerge) {
    let rank = |element: &Value| {
        order.iter().position(|wanted| match how {
            ListMerge::ByKey(key) => wanted.get(key).is_some() && wanted.get(key) == element.get(key),
            ListMerge::Set | ListMerge::Atomic => wanted == element,
        })
    };
    old.sort_by_key(|element| rank(element).unwrap_or(usize::MAX));
}

fn bad(message: String) -> ApiError {
    ApiError::bad_request(message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"finalizers": ["a"]}, "spec": {
            "containers": [
                {"name": "x", "image": "1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
                {"name": "y", "image": "1"}],
            "tolerations": [{"key": "old"}]}})
    }

    fn patched(patch: &Value) -> Value {
        strategic_patch_onto(pod(), patch).expect("a good patch")
    }

    #[test]
    fn named_elements_are_merged_and_atomic_lists_replaced() {
        let out = patched(&json!({"metadata": {"finalizers": ["b"]}, "spec": {
            "containers": [{"name": "x", "image": "2", "env": [{"name": "B", "value": "3"}]}, {"name": "z"}],
            "tolerations": [{"key": "new"}]}}));
        assert_eq!(out["metadata"]["finalizers"], json!(["a", "b"]));
        assert_eq!(
            out["spec"]["containers"],
            json!([
            {"name": "x", "image": "2", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}]},
            {"name": "y", "image": "1"}, {"name": "z"}])
        );
        assert_eq!(out["spec"]["tolerations"], json!([{"key": "new"}]));
    }

    #[test]
    fn directives_delete_replace_order_and_retain() {
        let out = patched(&json!({
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]},
            "spec": {"$setElementOrder/containers": [{"name": "y"}, {"name": "x"}],
                "containers": [{"name": "x", "$retainKeys": ["name", "image"], "image": "5"}]}}));
        assert_eq!(out["metadata"]["finalizers"], json!([]));
        assert_eq!(
            out["spec"]["containers"],
            json!([{"name": "y", "image": "1"}, {"name": "x", "image": "5"}])
        );
        let out = patched(&json!({"spec": {"containers": [{"name": "y", "$patch": "delete"}]}}));
        assert_eq!(out["spec"]["containers"].as_array().expect("a list").len(), 1);
        let out = patched(&json!({"spec": {"$patch": "replace", "nodeName": "n"}}));
        assert_eq!(out["spec"], json!({"nodeName": "n"}));
    }

    #[test]
    fn an_element_without_its_key_is_refused() {
        let error = strategic_patch_onto(pod(), &json!({"spec": {"containers": [{"image": "1"}]}}));
        assert_eq!(error.expect_err("no merge key").code, 400);
    }
}
