//! Deployments and ReplicaSets.

use serde_json::Value;

use super::form::not_negative;
use super::{immutable, metadata, pod, selector};
use crate::api::object::text;
use crate::api::status::FieldError;
use crate::api::unsupported;

/// Returns errors in a Deployment or ReplicaSet.
pub(crate) fn check(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let mut errors = Vec::new();
    for field in [
        "replicas",
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ] {
        not_negative(spec, "spec", field, &mut errors);
    }
    let strategy = text(spec, &["strategy", "type"]);
    let supported = ["Recreate", "RollingUpdate"];
    if !strategy.is_empty() && !supported.contains(&strategy) {
        errors.push(FieldError::unsupported(
            "spec.strategy.type",
            strategy,
            &supported,
        ));
    }
    if strategy == "Recreate" && spec["strategy"].get("rollingUpdate").is_some() {
        let text = "may not be specified when strategy `type` is 'Recreate'";
        errors.push(FieldError::forbidden("spec.strategy.rollingUpdate", text));
    }
    errors.extend(selector::of_template(spec));
    errors.extend(metadata::labels(
        &spec["template"]["metadata"],
        "spec.template.metadata.labels",
    ));
    let (path, pod_spec) = ("spec.template.spec", &spec["template"]["spec"]);
    errors.extend(pod::spec(pod_spec, path));
    errors.extend(unsupported::pod(pod_spec, path));
    let policy = text(pod_spec, &["restartPolicy"]);
    if policy != "Always" {
        errors.push(FieldError::unsupported(
            format!("{path}.restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    errors
}

/// Returns errors in a change. The selector is immutable.
pub(crate) fn update(old: &Value, new: &Value) -> Vec<FieldError> {
    immutable(old, new, &["spec", "selector"]).into_iter().collect()
}
