//! Sets of fields, and their `fieldsV1` form in `metadata.managedFields`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::schema::{ListType, Place, element_key, is_atomic_map, list_type};

/// A path: `f:name`, `k:{"key":…}` or `v:value` at each step.
pub(super) type Path = Vec<String>;

/// Paths of leaves, and of list elements (which also exist without fields).
pub(super) type FieldSet = BTreeSet<Path>;

/// Metadata fields that have no owner.
const UNOWNED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// Returns all fields of an object.
pub(super) fn of(object: &Value) -> FieldSet {
    let mut set = FieldSet::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if !UNOWNED_METADATA.contains(&key.as_str()) {
                        let path = ["f:metadata".to_owned(), format!("f:{key}")];
                        walk(value, &Place::ROOT.below("metadata").below(key), &path, &mut set);
                    }
                }
            }
            _ => walk(value, &Place::ROOT.below(key), &[format!("f:{key}")], &mut set),
        }
    }
    set
}

fn walk(value: &Value, at: &Place<'_>, path: &[String], set: &mut FieldSet) {
    let below = |step: String| [path, &[step]].concat();
    match value {
        Value::Object(map) if !map.is_empty() && !is_atomic_map(at) => {
            for (key, value) in map {
                walk(value, &at.below(key), &below(format!("f:{key}")), set);
            }
        }
        Value::Array(list) if !list.is_empty() => match list_type(at) {
            ListType::Atomic => drop(set.insert(path.to_vec())),
            ListType::Set => set.extend(list.iter().map(|element| below(format!("v:{element}")))),
            ListType::Map(keys) => {
                for element in list {
                    let path = below(element_key(element, keys));
                    set.insert(path.clone());
                    for (key, value) in element.as_object().into_iter().flatten() {
                        let path = [path.as_slice(), &[format!("f:{key}")]].concat();
                        walk(value, &at.below(key), &path, set);
                    }
                }
            }
        },
        _ => drop(set.insert(path.to_vec())),
    }
}

/// Returns true if the objects differ at the path of one of `wanted`'s fields. List elements differ
/// only by existing in one object, since their fields have their own paths. A map or list that
/// `wanted` leaves empty makes no demand on its content.
pub(super) fn differ(live: &Value, wanted: &Value, path: &[String]) -> bool {
    let (is, should) = (get(live, path), get(wanted, path));
    if path.last().is_some_and(|step| !step.starts_with("f:")) {
        return is.is_some() != should.is_some();
    }
    match (is, should) {
        (Some(Value::Object(_)), Some(Value::Object(should))) if should.is_empty() => false,
        (Some(Value::Array(_)), Some(Value::Array(should))) if should.is_empty() => false,
        _ => is != should,
    }
}

/// Returns the value at a path.
pub(super) fn get<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, step| child(value, step))
}

fn child<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    match step.split_at(2) {
        ("f:", key) => value.get(key),
        (_, _) => value.as_array()?.iter().find(|element| is_element(element, step)),
    }
}

fn child_mut<'a>(value: &'a mut Value, step: &str) -> Option<&'a mut Value> {
    match step.split_at(2) {
        ("f:", key) => value.get_mut(key),
        (_, _) => value
            .as_array_mut()?
            .iter_mut()
            .find(|element| is_element(element, step)),
    }
}

fn is_element(element: &Value, step: &str) -> bool {
    match step.split_at(2) {
        ("v:", text) => serde_json::from_str::<Value>(text).is_ok_and(|value| value == *element),
        ("k:", text) => serde_json::from_str::<Map<String, Value>>(text).is_ok_and(|key| {
            key.iter().all(|(name, value)| match element.get(name) {
                Some(own) => own == value,
                None => name == "protocol" && value == "TCP",
            })
        }),
        _ => false,
    }
}

/// Removes the value at a path, and the maps and lists that this leaves empty.
pub(super) fn remove(object: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let Some(parent) = parents
        .iter()
        .try_fold(&mut *object, |value, step| child_mut(value, step))
    else {
        return;
    };
    match (last.split_at(2), &mut *parent) {
        (("f:", key), Value::Object(map)) => drop(map.shift_remove(key)),
        (_, Value::Array(list)) => list.retain(|element| !is_element(element, last)),
        _ => {}
    }
    let emptied = match parent {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    if emptied && parents.len() > 1 && parents.last().is_some_and(|step| step.starts_with("f:")) {
        remove(object, parents);
    }
}

/// Converts fields to their `fieldsV1` form.
pub(super) fn to_v1(set: &FieldSet) -> Value {
    let mut root = json!({});
    for path in set {
        let mut node = &mut root;
        for step in path {
            node = node
                .as_object_mut()
                .expect("nodes are objects")
                .entry(step.as_str())
                .or_insert_with(|| json!({}));
        }
        if path.last().is_some_and(|step| step.starts_with("k:")) {
            node["."] = json!({});
        }
    }
    root
}

/// Parses fields from their `fieldsV1` form.
pub(super) fn from_v1(value: &Value) -> FieldSet {
    let mut set = FieldSet::new();
    read(value, &mut Vec::new(), &mut set);
    set
}

fn read(value: &Value, path: &mut Path, set: &mut FieldSet) {
    let Some(map) = value.as_object() else { return };
    if (map.is_empty() || map.contains_key(".")) && !path.is_empty() {
        // Other writers list maps with "."; only leaves and list elements count here.
        let is_map = !map.is_empty() && path.last().is_some_and(|step| step.starts_with("f:"));
        if !is_map || map.len() == 1 {
            set.insert(path.clone());
        }
    }
    for (step, below) in map.iter().filter(|(step, _)| is_step(step)) {
        path.push(step.clone());
        read(below, path, set);
        path.pop();
    }
}

/// Returns true for `f:`, `k:` and `v:` steps. Other writers also use `.` and indices of atomic
/// lists.
fn is_step(step: &str) -> bool {
    ["f:", "k:", "v:"].iter().any(|prefix| step.starts_with(prefix))
}

/// Formats a path as conflicts show it: `.spec.containers[name="x"].image`.
pub(super) fn display(path: &[String]) -> String {
    let mut text = String::new();
    for step in path {
        match step.split_at(2) {
            ("f:", key) => text.push_str(&format!(".{key}")),
            ("k:", key) => {
                let map: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let keys: Vec<String> = map
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                text.push_str(&format!("[{}]", keys.join(",")));
            }
            (_, value) => text.push_str(&format!("[={value}]")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_survive_their_written_form_and_name_what_they_hold() {
        let object = json!({"metadata": {"name": "x", "labels": {"a": "b"}, "finalizers": ["f/1"]},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
                "containers": [{"name": "c", "image": "i", "args": ["1", "2"]}]}});
        let set = of(&object);
        assert_eq!(from_v1(&to_v1(&set)), set);
        let texts: Vec<String> = set.iter().map(|path| display(path)).collect();
        assert!(
            texts.contains(&".spec.containers[name=\"c\"].image".to_owned()),
            "{texts:?}"
        );
        assert!(texts.contains(&".spec.selector".to_owned()), "atomic: {texts:?}");
        assert!(set.iter().all(|path| get(&object, path).is_some()));
    }

    #[test]
    fn removing_the_last_field_removes_its_map() {
        let mut object = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1}});
        remove(&mut object, &["f:metadata", "f:labels", "f:a"].map(str::to_owned));
        assert_eq!(object, json!({"metadata": {}, "spec": {"replicas": 1}}));
    }
}
