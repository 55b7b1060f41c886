//! Defaulting: what Kubernetes fills in when the author leaves it out, one file per kind.

mod claim;
mod disruption;
mod job;
pub(crate) mod pod;
mod service;
mod stateful_set;

use serde_json::{Value, json};

use super::kinds::Kind;
use super::object;

/// Fills in the defaults of an object.
pub(crate) fn apply(kind: &Kind, value: &mut Value) {
    match kind.kind {
        "Pod" => pod::apply(value),
        "Service" => service::apply(value),
        "StatefulSet" => stateful_set::apply(value),
        "Job" => job::apply(value),
        "PersistentVolumeClaim" => claim::apply(&mut value["spec"]),
        "PersistentVolume" => {
            set(&mut value["spec"], "volumeMode", json!("Filesystem"));
            set(
                &mut value["spec"],
                "persistentVolumeReclaimPolicy",
                json!("Retain"),
            );
        }
        "StorageClass" => {
            set(value, "reclaimPolicy", json!("Delete"));
            set(value, "volumeBindingMode", json!("Immediate"));
        }
        "PodDisruptionBudget" => disruption::apply(&mut value["spec"]),
        "Secret" => secret(value),
        "EndpointSlice" => endpoint_slice(value),
        "Namespace" => {
            let name = object::name(value).to_owned();
            let meta = object::meta_mut(value);
            let labels = meta.entry("labels").or_insert_with(|| json!({}));
            labels["kubernetes.io/metadata.name"] = json!(name);
        }
        _ => {}
    }
}

/// Keeps what an update leaves out though it cannot be changed.
pub(crate) fn carry_over(kind: &Kind, old: &Value, new: &mut Value) {
    let fields: &[&str] = match kind.kind {
        "Service" => &["clusterIP", "clusterIPs"],
        "PersistentVolumeClaim" => &["volumeName", "storageClassName"],
        "Job" => &["selector"],
        "Pod" => &["nodeName", "serviceAccountName", "serviceAccount"],
        _ => &[],
    };
    for field in fields {
        if let Some(value) = object::at(old, &["spec", field]) {
            set(&mut new["spec"], field, value.clone());
        }
    }
    if kind.kind == "Job" {
        job::carry_over(old, new);
    }
}

/// Sets a field unless it is there.
pub(crate) fn set(object: &mut Value, key: &str, value: Value) {
    if object.get(key).is_none_or(Value::is_null) {
        object[key] = value;
    }
}

/// `stringData` is a way of writing `data`.
fn secret(secret: &mut Value) {
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

fn endpoint_slice(slice: &mut Value) {
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
