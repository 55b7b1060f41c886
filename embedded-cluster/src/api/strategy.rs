//! Preparation of an object before it is stored. The steps separate status from spec, update the
//! generation, apply defaults and validate. (Kubernetes calls these the registry strategies.)

use serde_json::{Value, json};

use super::kinds::ResourceKind;
use super::request::RequestContext;
use super::server::ApiServer;
use super::status::ApiError;
use super::{defaults, object, validate};

/// Prepares a new object.
pub(crate) fn prepare_create(
    server: &ApiServer,
    kind: &'static ResourceKind,
    object: &mut Value,
) -> Result<(), ApiError> {
    if kind.status && !kind.behaviour.status_at_creation {
        object::remove(object, "status");
    }
    (kind.behaviour.defaults)(object);
    (kind.behaviour.initial_status)(object);
    *object = retyped(kind, object)?;
    let name = object::name(object).to_owned();
    check_size(object)?;
    let errors = validate::create(kind, object);
    if !errors.is_empty() {
        return Err(ApiError::invalid(kind, &name, &errors));
    }
    (kind.behaviour.admit_create)(server, kind, object)
}

/// Prepares a new version of an object. A write to the object leaves its status alone. A write to
/// its `status` subresource changes only status and metadata.
pub(crate) fn prepare_update(
    server: &ApiServer,
    ctx: &RequestContext,
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
    if ctx.subresource != "finalize" && kind.subresources.contains(&"finalize") {
        // A namespace's `spec.finalizers` are removed only through `finalize`.
        object::copy_field(new, old, "spec");
    }
    (kind.behaviour.defaults)(new);
    defaults::carry_over(kind, old, new);
    *new = retyped(kind, new)?;
    check_size(new)?;
    let errors = validate::update(kind, &ctx.subresource, old, new);
    if !errors.is_empty() {
        return Err(ApiError::invalid(kind, &ctx.name, &errors));
    }
    (kind.behaviour.admit_update)(server, kind, old, new)?;
    if kind.generation && spec_changed(old, new) {
        let generation = object::at(old, &["metadata", "generation"])
            .and_then(Value::as_i64)
            .unwrap_or(0);
        new["metadata"]["generation"] = json!(generation.saturating_add(1));
    }
    Ok(())
}

/// Passes the object through its type again, so that equal objects compare equal.
fn retyped(kind: &'static ResourceKind, object: &Value) -> Result<Value, ApiError> {
    (kind.storage().typed)(object)
        .map_err(|error| ApiError::internal(format!("object is malformed after defaulting: {error}")))
}

/// etcd's default `--max-request-bytes`.
const MAX_OBJECT: usize = 1536 * 1024;

fn check_size(object: &Value) -> Result<(), ApiError> {
    if object::text_size(object) > MAX_OBJECT {
        return Err(ApiError::object_too_large());
    }
    Ok(())
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

/// Returns true if anything but metadata and status changed. An EndpointSlice, for instance, has no
/// `spec`.
fn spec_changed(old: &Value, new: &Value) -> bool {
    sections(old, new)
        .iter()
        .filter(|key| !matches!(key.as_str(), "metadata" | "status"))
        .any(|key| old.get(key) != new.get(key))
}
