//! Defaulting: fills in the fields that the author leaves out. One file per kind.

pub(crate) mod claim;
pub(crate) mod deployment;
pub(crate) mod disruption;
pub(crate) mod job;
pub(crate) mod pod;
pub(crate) mod service;
pub(crate) mod stateful_set;

use serde_json::{Value, json};

use super::kinds::ResourceKind;
use super::object;

/// Keeps immutable fields that an update leaves out.
pub(crate) fn carry_over(kind: &ResourceKind, old: &Value, new: &mut Value) {
    for field in kind.behaviour.carried_over {
        if let Some(value) = object::at(old, &["spec", field]) {
            set(&mut new["spec"], field, value.clone());
        }
    }
    (kind.behaviour.carry_over)(old, new);
}

/// Labels a namespace with its name.
pub(crate) fn namespace(namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    let meta = object::meta_mut(namespace);
    let labels = meta.entry("labels").or_insert_with(|| json!({}));
    labels["kubernetes.io/metadata.name"] = json!(name);
}

/// Sets a field unless it is already set.
pub(crate) fn set(object: &mut Value, key: &str, value: Value) {
    if object.get(key).is_none_or(Value::is_null) {
        object[key] = value;
    }
}

/// Moves `stringData` to `data`, base64-encoded.
pub(crate) fn secret(secret: &mut Value) {
    use base64::Engine as _;
    set(secret, "type", json!("Opaque"));
    let Some(Value::Object(texts)) = object::remove(secret, "stringData") else {
        return;
    };
    for (key, text) in texts {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
        object::child_mut(secret, "data").insert(key, json!(encoded));
    }
}

/// Fills in the ports of an EndpointSlice.
pub(crate) fn endpoint_slice(slice: &mut Value) {
    for port in slice
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        set(port, "protocol", json!("TCP"));
        set(port, "name", json!(""));
    }
}
