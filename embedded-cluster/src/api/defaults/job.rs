//! Defaults of Jobs, and the labels and selector that tie a Job to its pods.

use serde_json::{Value, json};

use super::{pod, set};
use crate::api::object;

/// Labels that carry the Job's UID and name, in the current and the old form.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// Fills in a Job.
pub(crate) fn apply(job: &mut Value) {
    let (uid, name) = (object::uid(job).to_owned(), object::name(job).to_owned());
    let spec = &mut job["spec"];
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        set(spec, "completions", json!(1));
    }
    set(spec, "parallelism", json!(1));
    set(spec, "completionMode", json!("NonIndexed"));
    set(spec, "suspend", json!(false));
    set(spec, "backoffLimit", json!(6));
    set(spec, "podReplacementPolicy", json!("TerminatingOrFailed"));
    pod::apply_template(&mut spec["template"]["spec"]);
    if spec["manualSelector"] != true && !uid.is_empty() {
        own_pods(spec, &uid, &name);
    }
}

/// Keeps the labels that defaulting added, since the author of an update never wrote them.
pub(crate) fn carry_over(old: &Value, new: &mut Value) {
    let old_labels = object::at(old, &["spec", "template", "metadata", "labels"]).cloned();
    let Some(Value::Object(old_labels)) = old_labels else {
        return;
    };
    let template = &mut new["spec"]["template"];
    let labels = object::meta_mut(template)
        .entry("labels")
        .or_insert_with(|| json!({}));
    for key in UID_LABELS.iter().chain(&NAME_LABELS) {
        if let Some(value) = old_labels.get(*key) {
            set(labels, key, value.clone());
        }
    }
}

fn own_pods(spec: &mut Value, uid: &str, name: &str) {
    let labels = object::meta_mut(&mut spec["template"])
        .entry("labels")
        .or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    for key in UID_LABELS {
        set(labels, key, json!(uid));
    }
    for key in NAME_LABELS {
        set(labels, key, json!(name));
    }
    set(spec, "selector", json!({"matchLabels": {UID_LABELS[0]: uid}}));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_finds_its_own_pods() {
        let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {
            "containers": [], "restartPolicy": "Never"}}}});
        apply(&mut job);
        assert_eq!(
            job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"],
            "u"
        );
        assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
        assert_eq!(
            (&job["spec"]["completions"], &job["spec"]["backoffLimit"]),
            (&json!(1), &json!(6))
        );
    }
}
