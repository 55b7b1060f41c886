//! Merging of lists and maps under server-side apply: `x-kubernetes-list-type`, its keys and atomic
//! maps. The names of a field and its parent identify them, like the merge keys in `strategic`.

use serde_json::Value;

/// The merge rule of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListType {
    /// One value, owned as a whole.
    Atomic,
    /// Scalars, each owned by itself.
    Set,
    /// Objects that these fields identify.
    Map(&'static [&'static str]),
}

/// Place of a value in an object: the name of its field, and of the enclosing field.
///
/// A single struct, not two arguments, works around rustc 1.95 (LLVM 22.1) at optimisation level 1.
/// The compiler miscompiles a recursion that passes one argument in the position of another. With
/// two arguments every list was merged as an atomic one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    parent: &'a str,
    field: &'a str,
}

impl<'a> Place<'a> {
    /// The object itself.
    pub(super) const ROOT: Place<'static> = Place {
        parent: "",
        field: "",
    };

    /// Returns the place of a field of the object or map at this place.
    pub(super) fn below<'b>(&self, key: &'b str) -> Place<'b>
    where
        'a: 'b,
    {
        Place {
            parent: self.field,
            field: key,
        }
    }

    /// Returns the place of an element of the list at this place. Its fields are those of the
    /// list's name.
    pub(super) fn element(&self) -> Place<'a> {
        Place {
            parent: "",
            field: self.field,
        }
    }
}

/// Returns the type of the list at a place.
pub(super) fn list_type(at: &Place<'_>) -> ListType {
    match (at.parent, at.field) {
        ("metadata", "finalizers") => ListType::Set,
        ("metadata", "ownerReferences") => ListType::Map(&["uid"]),
        ("containers" | "initContainers" | "ephemeralContainers", "ports") => {
            ListType::Map(&["containerPort", "protocol"])
        }
        ("spec", "ports") => ListType::Map(&["port", "protocol"]),
        ("containers" | "initContainers" | "ephemeralContainers", "env")
        | (
            "spec",
            "containers"
            | "initContainers"
            | "ephemeralContainers"
            | "volumes"
            | "imagePullSecrets"
            | "schedulingGates"
            | "resourceClaims",
        )
        | ("resources", "claims")
        | ("", "secrets") => ListType::Map(&["name"]),
        ("containers" | "initContainers" | "ephemeralContainers", "volumeDevices") => {
            ListType::Map(&["devicePath"])
        }
        ("spec", "podCIDRs") => ListType::Set,
        ("containers" | "initContainers" | "ephemeralContainers", "volumeMounts") => {
            ListType::Map(&["mountPath"])
        }
        ("spec", "hostAliases") => ListType::Map(&["ip"]),
        ("spec", "topologySpreadConstraints") => ListType::Map(&["topologyKey", "whenUnsatisfiable"]),
        ("status", "conditions") => ListType::Map(&["type"]),
        ("status", "podIPs" | "hostIPs") => ListType::Map(&["ip"]),
        _ => ListType::Atomic,
    }
}

/// Returns true if the map at a place is atomic.
pub(super) fn is_atomic_map(at: &Place<'_>) -> bool {
    matches!(
        at.field,
        "selector"
            | "labelSelector"
            | "namespaceSelector"
            | "nodeSelector"
            | "fieldRef"
            | "secretKeyRef"
            | "configMapKeyRef"
            | "resourceFieldRef"
            | "roleRef"
            | "scopeSelector"
    )
}

/// Returns the key of a list element, as `fieldsV1` writes it. Ports are TCP by default.
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
