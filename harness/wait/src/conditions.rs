//! Pure functions that interpret the states of pods and jobs. States that waiting does not heal are
//! in [`super::terminal_state`].

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::Verdict;
use super::terminal_state::ended;
pub use super::terminal_state::{terminal_state, terminal_state_of_hook_pod};

/// Returns true if the pod's `Ready` condition is true and the pod is not being deleted.
pub fn is_ready(pod: &Pod) -> bool {
    !is_terminating(pod) && has_condition(pod, "Ready", "True")
}

/// Returns true if the pod is being deleted.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Returns true if every container of the pod has started and is running.
pub fn is_running(pod: &Pod) -> bool {
    let containers = container_statuses(pod);
    !containers.is_empty()
        && containers
            .iter()
            .all(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

/// Describes the pod in the words of `kubectl get pods`:
/// `Running 0/1, CrashLoopBackOff, 2 restarts`.
pub fn describe(pod: Option<&Pod>) -> String {
    let Some(pod) = pod else {
        return "absent".to_owned();
    };
    let statuses = container_statuses(pod);
    let ready = statuses.iter().filter(|status| status.ready).count();
    let total = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending");
    let mut text = format!("{phase} {ready}/{total}");
    if is_terminating(pod) {
        text.push_str(", terminating");
    }
    for status in statuses {
        if let Some(waiting) = status.state.as_ref().and_then(|state| state.waiting.as_ref()) {
            text.push_str(", ");
            text.push_str(waiting.reason.as_deref().unwrap_or("waiting"));
        }
    }
    let restarts: i32 = statuses.iter().map(|status| status.restart_count).sum();
    match restarts {
        0 => {}
        1 => text.push_str(", 1 restart"),
        more => text.push_str(&format!(", {more} restarts")),
    }
    text
}

/// Returns ready if the job is complete, and [`Verdict::Never`] if it has failed.
pub fn job_verdict(job: Option<&Job>) -> Verdict<()> {
    let Some(job) = job else {
        return Verdict::NotYet("absent".to_owned());
    };
    let status = job.status.as_ref();
    let condition = |type_: &str| {
        let conditions = status
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default();
        conditions
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    if condition("Complete").is_some() {
        return Verdict::Ready(());
    }
    if let Some(failed) = condition("Failed").or_else(|| condition("FailureTarget")) {
        let reason = failed.reason.as_deref().unwrap_or("Failed");
        let message = failed.message.as_deref().unwrap_or("no message");
        return Verdict::Never(format!("{reason}: {message}"));
    }
    let count = |field: fn(&k8s_openapi::api::batch::v1::JobStatus) -> Option<i32>| {
        status.and_then(field).unwrap_or(0)
    };
    let (active, failed) = (count(|status| status.active), count(|status| status.failed));
    Verdict::NotYet(format!("{active} active, {failed} failed"))
}

/// Returns ready if a pod that runs once (a `helm test` pod) has succeeded. Returns
/// [`Verdict::Never`] if the pod has failed.
pub fn one_shot_verdict(pod: Option<&Pod>) -> Verdict<()> {
    let Some(pod) = pod else {
        return Verdict::NotYet("absent".to_owned());
    };
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => Verdict::Ready(()),
        Some("Failed") => {
            let codes = container_statuses(pod).iter().filter_map(ended);
            let codes: Vec<String> = codes.map(|ended| ended.to_string()).collect();
            Verdict::Never(format!("the pod failed ({})", codes.join(", ")))
        }
        _ => match terminal_state(pod) {
            Some(state) => Verdict::Never(state.to_string()),
            None => Verdict::NotYet(describe(Some(pod))),
        },
    }
}

/// Returns true if the controller has seen the newest specification and every replica is ready.
pub fn is_rolled_out(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    let wanted = set.spec.replicas.unwrap_or(1);
    let observed = status.observed_generation >= set.metadata.generation;
    observed
        && status.ready_replicas.unwrap_or(0) == wanted
        && status.replicas == wanted
        && status.updated_replicas.unwrap_or(0) == wanted
}

/// Returns the status of every container; empty until the kubelet has reported.
pub fn container_statuses(pod: &Pod) -> &[ContainerStatus] {
    pod.status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default()
}

pub(super) fn has_condition(pod: &Pod, type_: &str, value: &str) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == type_ && condition.status == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(yaml: &str) -> Pod {
        serde_yaml::from_str(yaml).expect("the test's own YAML is a pod")
    }

    const CRASHING: &str = "
metadata: {name: vk-0}
spec: {containers: [{name: valkey}]}
status:
  phase: Running
  containerStatuses:
  - {name: valkey, ready: false, restartCount: 3, image: x, imageID: x,
     state: {waiting: {reason: CrashLoopBackOff, message: back-off 20s}},
     lastState: {terminated: {exitCode: 1}}}
";

    #[test]
    fn a_crash_loop_names_its_pod_container_and_exit_code() {
        let crashing = pod(CRASHING);
        assert_eq!(
            terminal_state(&crashing).unwrap().to_string(),
            "pod vk-0, container valkey: CrashLoopBackOff, last exit code 1, 3 restarts"
        );
        assert_eq!(
            describe(Some(&crashing)),
            "Running 0/1, CrashLoopBackOff, 3 restarts"
        );
    }

    #[test]
    fn ready_ends_with_the_deletion_of_the_pod() {
        let yaml = "
metadata: {name: vk-0}
status: {conditions: [{type: Ready, status: 'True'}]}
";
        let mut ready = pod(yaml);
        assert!(is_ready(&ready));
        ready.metadata.deletion_timestamp = serde_yaml::from_str("2026-01-01T00:00:00Z").unwrap();
        assert!(!is_ready(&ready));
    }

    #[test]
    fn a_job_is_complete_failed_or_still_at_it() {
        let job = |status: &str| -> Job { serde_yaml::from_str(&format!("status: {status}")).unwrap() };
        assert_eq!(
            job_verdict(Some(&job("{conditions: [{type: Complete, status: 'True'}]}"))),
            Verdict::Ready(())
        );
        let failed =
            "{conditions: [{type: Failed, status: 'True', reason: BackoffLimitExceeded, message: limit}]}";
        assert_eq!(
            job_verdict(Some(&job(failed))),
            Verdict::Never("BackoffLimitExceeded: limit".to_owned())
        );
        assert_eq!(
            job_verdict(Some(&job("{active: 1}"))),
            Verdict::NotYet("1 active, 0 failed".to_owned())
        );
        assert_eq!(job_verdict(None), Verdict::NotYet("absent".to_owned()));
    }

    #[test]
    fn a_rollout_ends_only_once_its_newest_generation_is_seen() {
        let set = |observed: i64, updated: i32| -> StatefulSet {
            serde_yaml::from_str(&format!(
                "{{metadata: {{generation: 2}}, spec: {{replicas: 3, selector: {{}}, template: {{}}, serviceName: x}},
                  status: {{replicas: 3, readyReplicas: 3, updatedReplicas: {updated}, observedGeneration: {observed}}}}}"
            ))
            .unwrap()
        };
        assert!(is_rolled_out(&set(2, 3)));
        assert!(!is_rolled_out(&set(1, 3)));
        assert!(!is_rolled_out(&set(2, 2)));
    }
}
