//! Changes that a pod allows after its creation: images, deadlines, tolerations.

use serde_json::{Value, json};

use crate::api::object::{self, list};
use crate::api::status::FieldError;

/// Kubernetes' words for a change that is not allowed.
const FORBIDDEN: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Returns errors in a changed pod.
pub(crate) fn check(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["containers", "initContainers"] {
        if list(old, &["spec", field]).len() != list(new, &["spec", field]).len() {
            errors.push(FieldError::forbidden(
                format!("spec.{field}"),
                "pod updates may not add or remove containers",
            ));
        }
    }
    let kept = list(new, &["spec", "tolerations"]);
    let lost = list(old, &["spec", "tolerations"])
        .iter()
        .any(|toleration| !kept.contains(toleration));
    if lost {
        errors.push(FieldError::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
    if errors.is_empty() && without_mutable(old) != without_mutable(new) {
        errors.push(FieldError::forbidden("spec", FORBIDDEN));
    }
    errors
}

fn without_mutable(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for field in ["activeDeadlineSeconds", "tolerations"] {
        object::remove(&mut spec, field);
    }
    for field in ["containers", "initContainers"] {
        for container in spec
            .get_mut(field)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            container["image"] = json!("");
        }
    }
    spec
}
