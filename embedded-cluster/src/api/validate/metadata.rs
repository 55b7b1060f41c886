//! Validation of every object's metadata.

use serde_json::Value;

use super::names;
use crate::api::kinds::ResourceKind;
use crate::api::object::{self, at, list, text};
use crate::api::status::FieldError;

/// Total size of annotations, in bytes.
const ANNOTATIONS_SIZE: usize = 256 * 1024;

/// Returns errors in the metadata of a new object.
pub(super) fn create(kind: &ResourceKind, object: &Value) -> Vec<FieldError> {
    let name = object::name(object);
    if name.is_empty() {
        return vec![FieldError::required(
            "metadata.name",
            "name or generateName is required",
        )];
    }
    let form = kind.behaviour.name;
    let mut errors = Vec::new();
    if !(form.is_valid)(name) {
        errors.push(FieldError::invalid("metadata.name", name, form.description));
    }
    errors.extend(common(object));
    errors
}

/// Returns errors in the metadata of a changed object.
pub(super) fn update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = common(new);
    if object::is_terminating(old) {
        let had = object::finalizers(old);
        let added: Vec<&str> = object::finalizers(new)
            .into_iter()
            .filter(|finalizer| !had.contains(finalizer))
            .collect();
        if !added.is_empty() {
            let text = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            errors.push(FieldError::forbidden("metadata.finalizers", text));
        }
    }
    errors
}

fn common(object: &Value) -> Vec<FieldError> {
    let mut errors = labels(&object["metadata"], "metadata.labels");
    errors.extend(annotations(&object["metadata"]));
    for (index, owner) in list(object, &["metadata", "ownerReferences"]).iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, &[field]).is_empty() {
                let path = format!("metadata.ownerReferences[{index}].{field}");
                errors.push(FieldError::invalid(
                    path,
                    "",
                    format!("{field} must not be empty"),
                ));
            }
        }
    }
    let controllers = list(object, &["metadata", "ownerReferences"]).iter();
    if controllers.filter(|owner| owner["controller"] == true).count() > 1 {
        let references = at(object, &["metadata", "ownerReferences"])
            .cloned()
            .unwrap_or_default();
        let text = "Only one reference can have Controller set to true";
        errors.push(FieldError::invalid("metadata.ownerReferences", references, text));
    }
    for finalizer in object::finalizers(object) {
        let plain = matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes");
        if !plain && !finalizer.contains('/') {
            let text = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid("metadata.finalizers", finalizer, text));
        }
    }
    errors
}

/// Returns errors in the labels of a metadata object.
pub(super) fn labels(metadata: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in metadata
        .get("labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if !names::is_qualified_name(key) {
            errors.push(FieldError::invalid(path, key.as_str(), names::QUALIFIED_NAME));
        }
        let value = value.as_str().unwrap_or_default();
        if value.len() > 63 {
            errors.push(FieldError::invalid(path, value, "must be no more than 63 bytes"));
        } else if !names::is_label_value(value) {
            errors.push(FieldError::invalid(path, value, names::LABEL_VALUE));
        }
    }
    errors
}

fn annotations(metadata: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in metadata
        .get("annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if !names::is_qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(
                "metadata.annotations",
                key.as_str(),
                names::QUALIFIED_NAME,
            ));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_SIZE {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_SIZE));
    }
    errors
}
