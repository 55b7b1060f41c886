//! Validation of objects, with Kubernetes' words. [`crate::unsupported`] has the refusals of what
//! this cluster cannot do.

mod container;
pub(crate) mod data;
pub(crate) mod deployment;
mod form;
mod handlers;
pub(crate) mod job;
mod metadata;
pub(crate) mod names;
pub(crate) mod pod;
pub(crate) mod pod_update;
mod selector;
pub(crate) mod service;
pub(crate) mod stateful_set;

use serde_json::Value;

pub(crate) use selector::matches as selector_matches;

use super::kinds::ResourceKind;
use super::status::FieldError;

/// Returns errors in a new object.
pub(crate) fn create(kind: &ResourceKind, object: &Value) -> Vec<FieldError> {
    let mut errors = metadata::create(kind, object);
    errors.extend((kind.behaviour.check)(object));
    errors
}

/// Returns errors in a changed object.
pub(crate) fn update(kind: &ResourceKind, subresource: &str, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = metadata::update(old, new);
    if matches!(subresource, "status" | "binding") {
        return errors;
    }
    if !kind.behaviour.admitted_once {
        errors.extend((kind.behaviour.check)(new));
    }
    errors.extend((kind.behaviour.check_update)(old, new));
    errors
}

/// Returns an error if an immutable field has changed.
fn immutable(old: &Value, new: &Value, path: &[&str]) -> Option<FieldError> {
    let (old, new) = (super::object::at(old, path), super::object::at(new, path));
    (old != new).then(|| {
        FieldError::invalid(
            path.join("."),
            new.cloned().unwrap_or(Value::Null),
            "field is immutable",
        )
    })
}
