//! How lists and maps of the API merge under server-side apply: `x-kubernetes-list-type`, its keys, and
//! atomic maps. Known by the field's name and its parent's, like the merge keys in `strategic`.

use serde_json::Value;

/// How a list merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListType {
    /// One value, owned as a whole.
    Atomic,
    /// Scalars, each owned by itself.
    Set,
    /// Objects told apart by these fields.
    Map(&'static [&'static str]),
}

/// The type of the list `field` inside `parent`.
pub(super) fn list_type(parent: &str, field: &str) -> ListType {
    match (parent, field) {
        ("metadata", "finalizers") => ListType::Set,
        ("metadata", "ownerReferences") => ListType::Map(&["uid"]),
        ("containers" | "initContainers", "ports") => ListType::Map(&["containerPort", "protocol"]),
        ("spec", "ports") => ListType::Map(&["port", "protocol"]),
        ("containers" | "initContainers", "env")
        | ("spec", "containers" | "initContainers" | "volumes" | "imagePullSecrets")
        | ("", "secrets" | "imagePullSecrets") => ListType::Map(&["name"]),
        ("containers" | "initContainers", "volumeMounts") => ListType::Map(&["mountPath"]),
        ("spec", "hostAliases") => ListType::Map(&["ip"]),
        ("spec", "topologySpreadConstraints") => ListType::Map(&["topologyKey", "whenUnsatisfiable"]),
        ("status", "conditions") => ListType::Map(&["type"]),
        ("status", "podIPs" | "hostIPs") => ListType::Map(&["ip"]),
        _ => ListType::Atomic,
    }
}

/// The map is one value.
pub(super) fn is_atomic_map(field: &str) -> bool {
    matches!(
        field,
        "selector"
            | "labelSelector"
            | "namespaceSelector"
            | "nodeSelector"
            | "fieldRef"
            | "secretKeyRef"
            | "configMapKeyRef"
            | "resourceFieldRef"
    )
}

/// The key of a list element, as `fieldsV1` writes it. Ports are TCP unless they say otherwise.
pub(super) fn element_key(element: &Value, keys: &[&str]) -> String {
    let mut key = serde_json::Map::new();
    for name in keys {
        let value = match (element.get(*name), *name) {
            (Some(value), _) => value.clone(),
            (None, "protocol") => Value::from("TCP"),
            (None, _) => continue,
        };
        key.insert((*name).to_owned(), value);
    }
    format!("k:{}", Value::Object(key))
}
