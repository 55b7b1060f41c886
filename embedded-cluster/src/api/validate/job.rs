//! Jobs.

use serde_json::Value;

use super::{immutable, metadata, pod, selector};
use crate::api::object::text;
use crate::api::status::FieldError;
use crate::api::unsupported;

/// Returns errors in a Job.
pub(crate) fn check(job: &Value) -> Vec<FieldError> {
    let spec = &job["spec"];
    let mut errors = Vec::new();
    for field in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ] {
        if spec[field].as_i64().is_some_and(|number| number < 0) {
            let text = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(
                format!("spec.{field}"),
                spec[field].clone(),
                text,
            ));
        }
    }
    errors.extend(unsupported::job(job));
    errors.extend(selector::of_template(spec));
    errors.extend(metadata::labels(
        &spec["template"]["metadata"],
        "spec.template.metadata.labels",
    ));
    let path = "spec.template.spec";
    let pod_spec = &spec["template"]["spec"];
    errors.extend(pod::spec(pod_spec, path));
    errors.extend(unsupported::pod(pod_spec, path));
    let policy = text(pod_spec, &["restartPolicy"]);
    if !matches!(policy, "OnFailure" | "Never") {
        let path = format!("{path}.restartPolicy");
        if policy == "Always" {
            errors.push(FieldError::required(
                path,
                "valid values: \"OnFailure\", \"Never\"",
            ));
        } else {
            errors.push(FieldError::unsupported(path, policy, &["OnFailure", "Never"]));
        }
    }
    errors
}

/// Returns errors in a changed Job. Its completions, selector and pod template are immutable.
pub(crate) fn update(old: &Value, new: &Value) -> Vec<FieldError> {
    [
        &["spec", "completions"][..],
        &["spec", "selector"],
        &["spec", "template"],
        &["spec", "completionMode"],
    ]
    .into_iter()
    .filter_map(|path| immutable(old, new, path))
    .collect()
}
