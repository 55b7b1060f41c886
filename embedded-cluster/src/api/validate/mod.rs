//! Validation: what Kubernetes refuses, in its words; and, from `support`, what this cluster cannot do.

mod container;
mod data;
mod form;
mod handlers;
mod job;
mod metadata;
mod names;
mod pod;
mod pod_update;
mod quantity;
mod selector;
mod service;
mod stateful_set;

use serde_json::Value;

pub(crate) use selector::matches as selector_matches;

use super::kinds::Kind;
use super::status::FieldError;
use super::support;

/// Errors in a new object.
pub(crate) fn create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = metadata::create(kind, object);
    errors.extend(of_kind(kind, object));
    errors
}

/// Errors in a changed object.
pub(crate) fn update(kind: &Kind, subresource: &str, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = metadata::update(old, new);
    if subresource == "status" {
        return errors;
    }
    match kind.kind {
        "Pod" if subresource == "binding" => {}
        // A pod keeps what it was admitted with: only what may change is looked at.
        "Pod" => errors.extend(pod_update::check(old, new)),
        _ => {
            errors.extend(of_kind(kind, new));
            errors.extend(against_old(kind, old, new));
        }
    }
    errors
}

fn of_kind(kind: &Kind, object: &Value) -> Vec<FieldError> {
    match kind.kind {
        "Pod" => {
            let mut errors = pod::spec(&object["spec"], "spec");
            errors.extend(support::pod(&object["spec"], "spec"));
            errors
        }
        "Service" => service::check(object),
        "StatefulSet" => stateful_set::check(object),
        "Job" => job::check(object),
        "PersistentVolumeClaim" => data::claim(&object["spec"], "spec"),
        "PodDisruptionBudget" => data::disruption_budget(&object["spec"]),
        "ConfigMap" | "Secret" => data::keys(object),
        _ => Vec::new(),
    }
}

fn against_old(kind: &Kind, old: &Value, new: &Value) -> Vec<FieldError> {
    match kind.kind {
        "Service" => service::update(old, new),
        "StatefulSet" => stateful_set::update(old, new),
        "Job" => job::update(old, new),
        "PersistentVolumeClaim" => data::claim_update(old, new),
        "ConfigMap" | "Secret" => data::immutable(old, new),
        _ => Vec::new(),
    }
}

/// A field whose value may not change.
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
