//! StatefulSets.

use serde_json::Value;

use super::{data, metadata, pod, selector};
use crate::api::object::{self, at, list, text};
use crate::api::status::FieldError;
use crate::api::unsupported;

/// Kubernetes' message for a change that is not allowed.
const FORBIDDEN: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

/// Fields of the spec that may change.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// Returns errors in a StatefulSet.
pub(crate) fn check(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let mut errors = Vec::new();
    let policy = text(spec, &["podManagementPolicy"]);
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let supported = ["OrderedReady", "Parallel"];
        errors.push(FieldError::unsupported(
            "spec.podManagementPolicy",
            policy,
            &supported,
        ));
    }
    let strategy = text(spec, &["updateStrategy", "type"]);
    if !matches!(strategy, "RollingUpdate" | "OnDelete") {
        let text = "must be 'RollingUpdate' or 'OnDelete'";
        errors.push(FieldError::invalid(
            "spec.updateStrategy",
            spec["updateStrategy"].clone(),
            text,
        ));
    }
    for field in ["replicas", "minReadySeconds"] {
        if spec[field].as_i64().is_some_and(|number| number < 0) {
            let text = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(
                format!("spec.{field}"),
                spec[field].clone(),
                text,
            ));
        }
    }
    if let Some(start) = at(spec, &["ordinals", "start"])
        .and_then(Value::as_i64)
        .filter(|start| *start < 0)
    {
        let text = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("spec.ordinals.start", start, text));
    }
    errors.extend(selector::of_template(spec));
    errors.extend(metadata::labels(
        &spec["template"]["metadata"],
        "spec.template.metadata.labels",
    ));
    errors.extend(template_spec(spec));
    for (index, template) in list(spec, &["volumeClaimTemplates"]).iter().enumerate() {
        errors.extend(data::claim(
            &template["spec"],
            &format!("spec.volumeClaimTemplates[{index}].spec"),
        ));
    }
    errors
}

/// Returns errors in the template's spec. The claim templates count as volumes.
fn template_spec(spec: &Value) -> Vec<FieldError> {
    let path = "spec.template.spec";
    let mut pod_spec = spec["template"]["spec"].clone();
    let mut volumes = list(&pod_spec, &["volumes"]).to_vec();
    for claim in list(spec, &["volumeClaimTemplates"]) {
        let name = object::name(claim);
        volumes.retain(|volume| text(volume, &["name"]) != name);
        volumes.push(serde_json::json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    }
    pod_spec["volumes"] = Value::Array(volumes);
    let mut errors = pod::spec(&pod_spec, path);
    errors.extend(unsupported::pod(&spec["template"]["spec"], path));
    let policy = text(&pod_spec, &["restartPolicy"]);
    if policy != "Always" {
        errors.push(FieldError::unsupported(
            format!("{path}.restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if at(&pod_spec, &["activeDeadlineSeconds"]).is_some() {
        let text = "activeDeadlineSeconds in StatefulSet is not Supported";
        errors.push(FieldError::forbidden(
            format!("{path}.activeDeadlineSeconds"),
            text,
        ));
    }
    errors
}

/// Returns errors in a changed StatefulSet.
pub(crate) fn update(old: &Value, new: &Value) -> Vec<FieldError> {
    let fixed = |object: &Value| {
        let mut spec = object["spec"].clone();
        for field in MUTABLE {
            object::remove(&mut spec, field);
        }
        spec
    };
    if fixed(old) == fixed(new) {
        return Vec::new();
    }
    vec![FieldError::forbidden("spec", FORBIDDEN)]
}
