//! What a pod, a Job or a node's cluster is like, as far as a picture of the trial tells states apart.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wait::{Verdict, conditions};

/// What a pod, a Job or a node's cluster is like from a moment on, as far as a picture of the trial tells states apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
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

/// What a picture tells of a pod.
pub(super) fn of_pod(pod: Option<&Pod>) -> State {
    let Some(pod) = pod else { return State::Absent };
    if conditions::is_terminating(pod) {
        return State::Ending;
    }
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => State::Done,
        Some("Failed") => State::Failed,
        _ if conditions::doom(pod).is_some() => State::Failed,
        _ if conditions::is_ready(pod) => State::Ready,
        Some("Running") => State::Running,
        _ => State::Waiting,
    }
}

/// What a picture tells of a Job.
pub(super) fn of_job(job: Option<&Job>) -> State {
    match (job, conditions::job_verdict(job)) {
        (None, _) => State::Absent,
        (_, Verdict::Ready(())) => State::Done,
        (_, Verdict::Never(_)) => State::Failed,
        (Some(job), _) if job.metadata.deletion_timestamp.is_some() => State::Ending,
        (Some(job), _) => {
            let active = job.status.as_ref().and_then(|status| status.active).unwrap_or(0);
            if active > 0 {
                State::Running
            } else {
                State::Waiting
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
        assert_eq!(of_pod(None), State::Absent);
        assert_eq!(of_pod(Some(&Pod::default())), State::Waiting);
        assert_eq!(of_pod(Some(&running)), State::Running);
        assert_eq!(of_pod(Some(&ready)), State::Ready);
        assert_eq!(of_pod(Some(&ending)), State::Ending);
        assert_eq!(of_pod(Some(&crashing)), State::Failed);
    }

    #[test]
    fn a_job_goes_through_its_states() {
        let job = |yaml: &str| -> Job { serde_yaml::from_str(yaml).expect("the test's own YAML is a Job") };
        assert_eq!(of_job(None), State::Absent);
        assert_eq!(of_job(Some(&job("{status: {active: 1}}"))), State::Running);
        let ended = |type_: &str| {
            job(&format!(
                "{{status: {{conditions: [{{type: {type_}, status: 'True'}}]}}}}"
            ))
        };
        assert_eq!(of_job(Some(&ended("Complete"))), State::Done);
        assert_eq!(of_job(Some(&ended("Failed"))), State::Failed);
    }
}
