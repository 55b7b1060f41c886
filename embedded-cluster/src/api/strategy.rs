//! What happens to an object between its author and the store: status kept apart from spec, generation,
//! defaults, validation. (Kubernetes calls these the registry strategies.)

use serde_json::{Value, json};

use super::kinds::Kind;
use super::request::Context;
use super::server::ApiServer;
use super::status::ApiError;
use super::{defaults, object, validate};

/// Readies a new object.
pub(crate) fn prepare_create(
    server: &ApiServer,
    kind: &'static Kind,
    object: &mut Value,
) -> Result<(), ApiError> {
    if kind.status && kind.kind != "Node" {
        object::remove(object, "status");
    }
    defaults::apply(kind, object);
    initial_status(kind, object);
    *object = retyped(kind, object)?;
    let name = object::name(object).to_owned();
    let errors = validate::create(kind, object);
    if !errors.is_empty() {
        return Err(ApiError::invalid(kind, &name, &errors));
    }
    server.admit_create(kind, object)
}

/// Readies a new version of an object. A write to the object leaves its status alone, and a write to its
/// `status` subresource leaves everything but status and metadata alone.
pub(crate) fn prepare_update(
    server: &ApiServer,
    ctx: &Context,
    old: &Value,
    new: &mut Value,
) -> Result<(), ApiError> {
    let kind = ctx.kind;
    if ctx.subresource == "status" {
        for key in sections(old, new) {
            if key != "status" && key != "metadata" {
                object::copy_field(new, old, &key);
            }
        }
    } else if kind.status && ctx.subresource.is_empty() {
        object::copy_field(new, old, "status");
    }
    if ctx.subresource != "finalize" && kind.kind == "Namespace" {
        // Finalizers of a namespace's content are only removed through `finalize`.
        object::copy_field(new, old, "spec");
    }
    defaults::apply(kind, new);
    defaults::carry_over(kind, old, new);
    *new = retyped(kind, new)?;
    let errors = validate::update(kind, &ctx.subresource, old, new);
    if !errors.is_empty() {
        return Err(ApiError::invalid(kind, &ctx.name, &errors));
    }
    server.admit_update(kind, old, new)?;
    if kind.generation && spec_changed(old, new) {
        let generation = object::at(old, &["metadata", "generation"])
            .and_then(Value::as_i64)
            .unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
    Ok(())
}

/// Whatever was written into the object on the way has its type's form too, so that equal objects compare
/// equal.
fn retyped(kind: &'static Kind, object: &Value) -> Result<Value, ApiError> {
    (kind.storage().typed)(object)
        .map_err(|error| ApiError::internal(format!("object is malformed after defaulting: {error}")))
}

fn sections(old: &Value, new: &Value) -> Vec<String> {
    let keys = |value: &Value| {
        value
            .as_object()
            .map(|m| m.keys().cloned().collect())
            .unwrap_or_default()
    };
    let mut all: Vec<String> = keys(old);
    all.extend(keys(new));
    all
}

/// Everything but metadata and status counts: an EndpointSlice, for instance, has no `spec`.
fn spec_changed(old: &Value, new: &Value) -> bool {
    sections(old, new)
        .iter()
        .filter(|key| !matches!(key.as_str(), "metadata" | "status"))
        .any(|key| old.get(key) != new.get(key))
}

fn initial_status(kind: &Kind, object: &mut Value) {
    match kind.kind {
        "Namespace" => {
            object["status"] = json!({"phase": "Active"});
            object["spec"] = json!({"finalizers": ["kubernetes"]});
        }
        "Pod" => object["status"] = json!({"phase": "Pending", "qosClass": defaults::pod::qos_class(object)}),
        "PersistentVolumeClaim" => object["status"] = json!({"phase": "Pending"}),
        "PersistentVolume" => object["status"] = json!({"phase": "Pending"}),
        "Service" => object["status"] = json!({"loadBalancer": {}}),
        "StatefulSet" => object["status"] = json!({"replicas": 0, "availableReplicas": 0}),
        "Job" => object["status"] = json!({}),
        _ => {}
    }
}
