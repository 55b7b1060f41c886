//! Validation: what Kubernetes refuses, in its words.

use serde_json::Value;

use super::kinds::Kind;
use super::object;
use super::status::FieldError;

/// Errors in a new object.
pub(crate) fn create(_kind: &Kind, object: &Value) -> Vec<FieldError> {
    if object::name(object).is_empty() {
        return vec![FieldError::required(
            "metadata.name",
            "name or generateName is required",
        )];
    }
    Vec::new()
}

/// Errors in a changed object.
pub(crate) fn update(_kind: &Kind, _subresource: &str, _old: &Value, _new: &Value) -> Vec<FieldError> {
    Vec::new()
}
