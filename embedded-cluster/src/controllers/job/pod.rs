//! The pods that a Job creates, and the unsupported parts of a Job's specification.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::controllers::owners::controller_reference;

/// The label that ties pods to one Job and not to its successor of the same name.
pub(crate) const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";

/// Builds a new pod of the Job.
pub(crate) fn pod(job: &Job) -> Pod {
    let template = job
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    let mut labels = meta.labels.unwrap_or_default();
    for key in [UID_LABEL, "controller-uid"] {
        labels.insert(key.to_owned(), uid.clone());
    }
    for key in ["batch.kubernetes.io/job-name", "job-name"] {
        labels.insert(key.to_owned(), name.clone());
    }
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", suffix())),
            namespace: job.namespace(),
            labels: Some(labels),
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(job)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// Returns five characters of Kubernetes' vowel-free alphabet, as `generateName` does.
fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let random = uuid::Uuid::new_v4().into_bytes();
    random
        .iter()
        .take(5)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_carries_the_jobs_labels_and_its_own() {
        let job: Job = serde_yaml::from_str(
            "{metadata: {name: init, namespace: shop, uid: u1}, spec: {template: {metadata: {labels: {tool: init}}}}}",
        )
        .expect("a Job");
        let pod = pod(&job);
        assert!(pod.name_any().starts_with("init-") && pod.name_any().len() == 10);
        for (key, value) in [("job-name", "init"), (UID_LABEL, "u1"), ("tool", "init")] {
            assert_eq!(pod.labels().get(key).map(String::as_str), Some(value), "{key}");
        }
        assert!(crate::controllers::owners::is_controlled_by(&pod.metadata, &job));
    }
}
