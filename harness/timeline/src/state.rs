//! States of a pod, a Job or a node's cluster, as far as a picture of the trial shows them.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use wait::{Verdict, conditions};

/// The state of a pod, a Job or a node's cluster from a moment on, as far as a picture of the trial
/// distinguishes states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectState {
    /// It does not exist.
    Absent,
    /// It is not running yet.
    Waiting,
    /// It runs, and is not ready.
    Running,
    /// It is ready, or says ok.
    Ready,
    /// It is being deleted.
    Ending,
    /// It has done what it was for.
    Done,
    /// It has failed, or says fail.
    Failed,
}

/// Returns the state of a pod in a picture.
pub(super) fn of_pod(pod: Option<&Pod>) -> SubjectState {
    let Some(pod) = pod else {
        return SubjectState::Absent;
    };
    if conditions::is_terminating(pod) {
        return SubjectState::Ending;
    }
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => SubjectState::Done,
        Some("Failed") => SubjectState::Failed,
        _ if conditions::terminal_state(pod).is_some() => SubjectState::Failed,
        _ if conditions::is_ready(pod) => SubjectState::Ready,
        Some("Running") => SubjectState::Running,
        _ => SubjectState::Waiting,
    }
}

/// Returns the state of a Job in a picture.
pub(super) fn of_job(job: Option<&Job>) -> SubjectState {
    match (job, conditions::job_verdict(job)) {
        (None, _) => SubjectState::Absent,
        (_, Verdict::Ready(())) => SubjectState::Done,
        (_, Verdict::Never(_)) => SubjectState::Failed,
        (Some(job), _) if job.metadata.deletion_timestamp.is_some() => SubjectState::Ending,
        (Some(job), _) => {
            let active = job.status.as_ref().and_then(|status| status.active).unwrap_or(0);
            if active > 0 {
                SubjectState::Running
            } else {
                SubjectState::Waiting
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_goes_through_its_states() {
        let pod = |yaml: &str| -> Pod { serde_yaml::from_str(yaml).expect("the test's own YAML is a pod") };
        let running = pod("{status: {phase: Running}}");
        let ready = pod("{status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}}");
        let ending = pod("{metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}, status: {phase: Running}}");
        let crashing = pod(
            "{status: {phase: Running, containerStatuses: [{name: valkey, ready: false, restartCount: 2, image: x,
               imageID: x, state: {waiting: {reason: CrashLoopBackOff}}}]}}",
        );
        assert_eq!(of_pod(None), SubjectState::Absent);
        assert_eq!(of_pod(Some(&Pod::default())), SubjectState::Waiting);
        assert_eq!(of_pod(Some(&running)), SubjectState::Running);
        assert_eq!(of_pod(Some(&ready)), SubjectState::Ready);
        assert_eq!(of_pod(Some(&ending)), SubjectState::Ending);
        assert_eq!(of_pod(Some(&crashing)), SubjectState::Failed);
    }

    #[test]
    fn a_job_goes_through_its_states() {
        let job = |yaml: &str| -> Job { serde_yaml::from_str(yaml).expect("the test's own YAML is a Job") };
        assert_eq!(of_job(None), SubjectState::Absent);
        assert_eq!(of_job(Some(&job("{status: {active: 1}}"))), SubjectState::Running);
        let ended = |type_: &str| {
            job(&format!(
                "{{status: {{conditions: [{{type: {type_}, status: 'True'}}]}}}}"
            ))
        };
        assert_eq!(of_job(Some(&ended("Complete"))), SubjectState::Done);
        assert_eq!(of_job(Some(&ended("Failed"))), SubjectState::Failed);
    }
}
