//! Decisions about the next step of a Job. Follows `syncJob` of kube-controller-manager.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::ledger::{Ledger, REPORTED_WITHIN};
use crate::controllers::pods::{is_finished, is_ready, is_terminating};
use crate::seconds::bounded;

/// The API server's default for `backoffLimit`.
const DEFAULT_BACKOFF_LIMIT: i32 = 6;
/// Delay before the pod after a failed one (`restartPolicy: Never`), doubled with each failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
/// The longest such delay.
const LONGEST_BACKOFF: Duration = Duration::from_secs(600);

/// Maximum number of pods created in one pass, as in kube-controller-manager. A Job may ask for two
/// billion at once.
const MAX_CREATED: usize = 500;

/// Actions to take now, and the status after them.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Number of pods to create.
    pub(crate) create: usize,
    /// Pods to delete.
    pub(crate) delete: Vec<String>,
    /// The status to write.
    pub(crate) status: JobStatus,
    /// Events to publish once the status is written: (warning, reason, message).
    pub(crate) events: Vec<(bool, &'static str, String)>,
    /// Time until the next check if nothing changes.
    pub(crate) recheck: Option<Duration>,
}

/// Returns a condition of the Job if it is true.
pub(crate) fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|found| found.type_ == kind && found.status == "True")
}

/// Returns the time when the Job ended, if it has.
pub(crate) fn finished_at(status: &JobStatus) -> Option<Timestamp> {
    let ended = condition(status, "Complete").or_else(|| condition(status, "Failed"))?;
    ended.last_transition_time.as_ref().map(|time| time.0)
}

/// Decides the next step. The Job must not have ended.
pub(crate) fn plan(job: &Job, pods: &[Pod], ledger: &Ledger, now: Timestamp) -> Plan {
    let mut planner = Planner::new(job, pods, ledger, now);
    planner.decide();
    planner.plan.status.active = unless_zero(planner.active.len() - planner.plan.delete.len());
    planner.plan
}

struct Planner<'a> {
    job: &'a Job,
    pods: &'a [Pod],
    active: Vec<&'a Pod>,
    ledger: &'a Ledger,
    now: Timestamp,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(job: &'a Job, pods: &'a [Pod], ledger: &'a Ledger, now: Timestamp) -> Self {
        let active: Vec<&Pod> = pods
            .iter()
            .filter(|pod| !is_finished(pod) && !is_terminating(pod))
            .collect();
        let mut status = job.status.clone().unwrap_or_default();
        status.succeeded = grown(status.succeeded, ledger.succeeded());
        status.failed = grown(status.failed, ledger.failed());
        status.ready = Some(to_i32(active.iter().filter(|pod| is_ready(pod)).count()));
        let terminating = pods
            .iter()
            .filter(|pod| !is_finished(pod) && is_terminating(pod))
            .count();
        status.terminating = Some(to_i32(terminating));
        Self {
            job,
            pods,
            active,
            ledger,
            now,
            plan: Plan {
                status,
                ..Plan::default()
            },
        }
    }

    fn decide(&mut self) {
        if self.is_suspended() {
            return self.suspend();
        }
        self.resume_or_start();
        if condition(&self.plan.status, "SuccessCriteriaMet").is_none()
            && condition(&self.plan.status, "FailureTarget").is_none()
        {
            self.look_for_an_end();
        }
        if condition(&self.plan.status, "FailureTarget").is_some() {
            self.finish("Failed");
        } else if condition(&self.plan.status, "SuccessCriteriaMet").is_some() {
            self.finish("Complete");
        } else {
            self.keep_running();
        }
    }

    fn is_suspended(&self) -> bool {
        self.job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
    }

    fn suspend(&mut self) {
        self.plan.delete = names(&self.active);
        self.plan.status.start_time = None;
        if condition(&self.plan.status, "Suspended").is_none() {
            self.set_condition("Suspended", "True", "JobSuspended", "Job suspended");
            self.plan
                .events
                .push((false, "Suspended", "Job suspended".to_owned()));
        }
    }

    fn resume_or_start(&mut self) {
        if condition(&self.plan.status, "Suspended").is_some() {
            self.set_condition("Suspended", "False", "JobResumed", "Job resumed");
            self.plan
                .events
                .push((false, "Resumed", "Job resumed".to_owned()));
        }
        self.plan.status.start_time.get_or_insert(Time(self.now));
    }

    /// Checks for the end of the Job: sets `FailureTarget` or `SuccessCriteriaMet`.
    fn look_for_an_end(&mut self) {
        let deadline_passed = self.deadline_passed();
        if self.backoff_limit_exceeded() {
            let message = "Job has reached the specified backoff limit";
            self.set_condition("FailureTarget", "True", "BackoffLimitExceeded", message);
        } else if deadline_passed {
            let message = "Job was active longer than specified deadline";
            self.set_condition("FailureTarget", "True", "DeadlineExceeded", message);
        } else if self.is_complete() {
            let message = "Reached expected number of succeeded pods";
            self.set_condition("SuccessCriteriaMet", "True", "CompletionsReached", message);
        }
    }

    /// Returns true if the Job has exceeded its back-off limit.
    ///
    /// - `Never`: more failed pods than the limit.
    /// - `OnFailure`: the restarts have reached the limit and a container has ended once more. With
    ///   a limit of 0, the first restart exceeds it.
    fn backoff_limit_exceeded(&self) -> bool {
        let spec = self.job.spec.as_ref();
        let limit = spec
            .and_then(|spec| spec.backoff_limit)
            .unwrap_or(DEFAULT_BACKOFF_LIMIT);
        if self.plan.status.failed.unwrap_or(0) > limit {
            return true;
        }
        let policy = spec.and_then(|spec| spec.template.spec.as_ref()?.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let containers = || self.active.iter().flat_map(|pod| container_statuses(pod));
        let restarts = containers()
            .map(|status| status.restart_count)
            .fold(0, i32::saturating_add);
        if limit == 0 {
            restarts > 0
        } else {
            restarts >= limit && containers().any(has_failed_again)
        }
    }

    /// Returns true if the deadline has passed, and otherwise schedules a check at the deadline.
    fn deadline_passed(&mut self) -> bool {
        let deadline = self
            .job
            .spec
            .as_ref()
            .and_then(|spec| spec.active_deadline_seconds);
        let (Some(deadline), Some(start)) = (deadline, &self.plan.status.start_time) else {
            return false;
        };
        let elapsed = Duration::try_from(self.now.duration_since(start.0)).unwrap_or_default();
        let left = bounded(deadline).saturating_sub(elapsed);
        if !left.is_zero() {
            self.look_again_in(left);
        }
        left.is_zero()
    }

    fn is_complete(&self) -> bool {
        let succeeded = self.plan.status.succeeded.unwrap_or(0);
        match self.completions() {
            Some(completions) => succeeded >= completions,
            // A work queue: done when one pod has succeeded and the others have ended by
            // themselves.
            None => succeeded > 0 && self.active.is_empty(),
        }
    }

    /// Deletes the remaining pods of a Job that has reached its end, then sets the condition.
    fn finish(&mut self, end: &'static str) {
        self.plan.delete = names(&self.active);
        let going = self.pods.iter().any(|pod| !is_finished(pod));
        if going {
            return;
        }
        let target = if end == "Failed" {
            "FailureTarget"
        } else {
            "SuccessCriteriaMet"
        };
        let target = condition(&self.plan.status, target).cloned();
        let (reason, message) = target
            .map(|c| (c.reason.unwrap_or_default(), c.message.unwrap_or_default()))
            .unwrap_or_default();
        self.set_condition(end, "True", &reason, &message);
        if end == "Complete" {
            self.plan.status.completion_time = Some(Time(self.now));
            self.plan
                .events
                .push((false, "Completed", "Job completed".to_owned()));
        } else {
            let reason = if reason == "DeadlineExceeded" {
                "DeadlineExceeded"
            } else {
                "BackoffLimitExceeded"
            };
            self.plan.events.push((true, reason, message));
        }
        self.plan.recheck = None;
    }

    /// Creates pods up to the number that the Job wants, but after a failure only when its back-off
    /// is over.
    fn keep_running(&mut self) {
        let spec = self.job.spec.as_ref();
        let parallelism = spec.and_then(|spec| spec.parallelism).unwrap_or(1);
        let succeeded = self.plan.status.succeeded.unwrap_or(0);
        let wanted = match self.completions() {
            Some(completions) => parallelism.min(completions.saturating_sub(succeeded)),
            None if succeeded > 0 => parallelism.min(to_i32(self.active.len())),
            None => parallelism,
        };
        let wanted = usize::try_from(wanted).unwrap_or(0);
        // The watch will soon report the end of a pod that is no longer in the list.
        let unaccounted = self.ledger.unaccounted(self.pods);
        if unaccounted > 0 {
            self.look_again_in(REPORTED_WITHIN);
        }
        let taken = self.active.len() + unaccounted;
        if self.active.len() > wanted {
            self.plan.delete = names(&self.active[wanted..]);
        } else if taken < wanted {
            match self.backoff_left() {
                Some(left) => self.look_again_in(left),
                None => self.plan.create = (wanted - taken).min(MAX_CREATED),
            }
        }
    }

    fn completions(&self) -> Option<i32> {
        let spec = self.job.spec.as_ref()?;
        // The API server defaults both to 1 when neither is given.
        if spec.completions.is_none() && spec.parallelism.is_none() {
            Some(1)
        } else {
            spec.completions
        }
    }

    /// Returns the time until the failed pods allow another one.
    fn backoff_left(&self) -> Option<Duration> {
        let (failed, latest) = self.ledger.recent_failures()?;
        let doublings = u32::try_from(failed - 1).unwrap_or(u32::MAX).min(16);
        let delay = (FIRST_BACKOFF * 2_u32.pow(doublings)).min(LONGEST_BACKOFF);
        let elapsed = Duration::try_from(self.now.duration_since(latest)).unwrap_or_default();
        delay.checked_sub(elapsed).filter(|left| !left.is_zero())
    }

    fn look_again_in(&mut self, delay: Duration) {
        self.plan.recheck = Some(self.plan.recheck.map_or(delay, |recheck| recheck.min(delay)));
    }

    fn set_condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let conditions = self.plan.status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(JobCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(Time(self.now)),
            last_transition_time: Some(Time(self.now)),
        });
    }
}

fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        status
            .init_container_statuses
            .iter()
            .flatten()
            .chain(status.container_statuses.iter().flatten())
    })
}

/// Returns true if the container has ended with an error and is not running now.
fn has_failed_again(status: &ContainerStatus) -> bool {
    let Some(state) = &status.state else { return false };
    match (&state.terminated, &state.waiting) {
        (Some(terminated), _) => terminated.exit_code != 0,
        (None, Some(_)) => {
            let last = status
                .last_state
                .as_ref()
                .and_then(|last| last.terminated.as_ref());
            last.is_some_and(|terminated| terminated.exit_code != 0)
        }
        (None, None) => false,
    }
}

/// Returns the time when the pod's last container ended, or its creation time if no end is known.
pub(super) fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let ends = container_statuses(pod)
        .filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
        .map(|time| time.0);
    ends.max()
        .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

fn names(pods: &[&Pod]) -> Vec<String> {
    pods.iter().map(|pod| pod.name_any()).collect()
}

/// Returns the larger count. Counts never decrease: a finished pod that was deleted still counts.
fn grown(known: Option<i32>, seen: usize) -> Option<i32> {
    Some(known.unwrap_or(0).max(to_i32(seen))).filter(|count| *count != 0)
}

/// Returns a count as Kubernetes writes it: zero is left out.
fn unless_zero(count: usize) -> Option<i32> {
    Some(to_i32(count)).filter(|count| *count != 0)
}

fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:10:00Z";

    fn job(spec: &str) -> Job {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: j, uid: u}}, spec: {{template: {{spec: {{containers: [], restartPolicy: OnFailure}}}}, {spec}}}, \
             status: {{startTime: '2026-01-01T00:00:00Z'}}}}"
        ))
        .expect("a Job")
    }

    fn pod(name: &str, phase: &str, restarts: i32, state: &str) -> Pod {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: {name}, uid: {name}}}, status: {{phase: {phase}, containerStatuses: [{{name: c, image: i, imageID: '', \
             ready: false, restartCount: {restarts}, state: {state}, lastState: {{terminated: {{exitCode: 1}}}}}}]}}}}"
        ))
        .expect("a Pod")
    }

    fn decided(job: &Job, pods: &[Pod]) -> Plan {
        let now = NOW.parse().expect("a time");
        let mut ledger = Ledger::default();
        pods.iter().for_each(|pod| ledger.observe(pod, false, now));
        plan(job, pods, &ledger, now)
    }

    fn ends(plan: &Plan) -> Vec<String> {
        let conditions = plan.status.conditions.iter().flatten();
        conditions
            .map(|c| format!("{}={} {}", c.type_, c.status, c.reason.as_deref().unwrap_or("")))
            .collect()
    }

    const RUNNING: &str = "{running: {}}";
    const WAITING: &str = "{waiting: {reason: CrashLoopBackOff}}";

    #[test]
    fn a_new_job_starts_as_many_pods_as_it_may() {
        let plan = decided(&job("completions: 5, parallelism: 2"), &[]);
        assert_eq!((plan.create, plan.status.active), (2, None));
        let last = decided(&job("completions: 1, parallelism: 3"), &[]);
        assert_eq!(last.create, 1);
    }

    #[test]
    fn it_completes_as_soon_as_the_last_pod_has_succeeded() {
        let plan = decided(
            &job("completions: 1"),
            &[pod("a", "Succeeded", 0, "{terminated: {exitCode: 0}}")],
        );
        assert_eq!(
            ends(&plan),
            [
                "SuccessCriteriaMet=True CompletionsReached",
                "Complete=True CompletionsReached"
            ]
        );
        assert!(plan.status.completion_time.is_some());
        assert_eq!(plan.status.succeeded, Some(1));
    }

    #[test]
    fn on_failure_fails_when_it_ends_again_after_the_last_restart() {
        let job = job("completions: 1, backoffLimit: 2");
        assert!(ends(&decided(&job, &[pod("a", "Running", 1, WAITING)])).is_empty());
        assert!(
            ends(&decided(&job, &[pod("a", "Running", 2, RUNNING)])).is_empty(),
            "its last try runs"
        );
        let failing = decided(&job, &[pod("a", "Running", 2, WAITING)]);
        assert_eq!(ends(&failing), ["FailureTarget=True BackoffLimitExceeded"]);
        assert_eq!(failing.delete, ["a"], "the pod goes before the Job is Failed");
    }

    #[test]
    fn it_is_failed_once_its_pods_are_gone() {
        let mut job = job("completions: 1, backoffLimit: 2");
        job.status = Some(decided(&job, &[pod("a", "Running", 2, WAITING)]).status);
        assert!(
            condition(
                &decided(&job, &[pod("a", "Running", 2, WAITING)]).status,
                "Failed"
            )
            .is_none()
        );
        let gone = decided(&job, &[]);
        let failed = condition(&gone.status, "Failed").expect("failed");
        assert_eq!(failed.reason.as_deref(), Some("BackoffLimitExceeded"));
        assert_eq!(gone.create, 0);
    }

    #[test]
    fn never_waits_ever_longer_and_counts_pods() {
        let mut job = job("completions: 1, backoffLimit: 1");
        let spec = job.spec.as_mut().expect("spec");
        spec.template.spec.as_mut().expect("pod spec").restart_policy = Some("Never".into());
        let failed = |name| {
            pod(
                name,
                "Failed",
                0,
                "{terminated: {exitCode: 1, finishedAt: '2026-01-01T00:09:56Z'}}",
            )
        };
        let waiting = decided(&job, &[failed("a")]);
        assert_eq!(
            (waiting.create, waiting.recheck),
            (0, Some(Duration::from_secs(6)))
        );
        assert_eq!(
            ends(&decided(&job, &[failed("a"), failed("b")]))[0],
            "FailureTarget=True BackoffLimitExceeded"
        );
    }

    #[test]
    fn a_deadline_is_kept() {
        let late = decided(&job("completions: 1, activeDeadlineSeconds: 600"), &[]);
        assert_eq!(
            ends(&late),
            [
                "FailureTarget=True DeadlineExceeded",
                "Failed=True DeadlineExceeded"
            ]
        );
        let early = decided(&job("completions: 1, activeDeadlineSeconds: 630"), &[]);
        assert_eq!(early.recheck, Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_suspended_job_has_no_pods() {
        let plan = decided(
            &job("completions: 1, suspend: true"),
            &[pod("a", "Running", 0, RUNNING)],
        );
        assert_eq!((plan.delete, plan.create), (vec!["a".to_owned()], 0));
        assert_eq!(plan.status.active, None);
        assert!(plan.status.start_time.is_none());
    }

    #[test]
    fn a_pod_deleted_by_hand_failed_and_returns_after_the_back_off() {
        let (job, now) = (
            job("completions: 1, backoffLimit: 6"),
            NOW.parse().expect("a time"),
        );
        let mut ledger = Ledger::default();
        let is_terminal = pod("a", "Running", 0, RUNNING);
        ledger.made(&is_terminal);
        // The pod left the list before the watch reported it: neither failed nor replaced yet.
        assert_eq!(plan(&job, &[], &ledger, now).create, 0);
        ledger.observe(&is_terminal, true, now);
        let waiting = plan(&job, &[], &ledger, now);
        assert_eq!((waiting.create, waiting.status.failed), (0, Some(1)));
        assert_eq!(waiting.recheck, Some(Duration::from_secs(10)));
        let later = now.checked_add(Duration::from_secs(10)).expect("in range");
        assert_eq!(plan(&job, &[], &ledger, later).create, 1);
        let mut strict = job;
        strict.spec.as_mut().expect("spec").backoff_limit = Some(0);
        assert_eq!(
            ends(&plan(&strict, &[], &ledger, now))[0],
            "FailureTarget=True BackoffLimitExceeded"
        );
    }

    #[test]
    fn a_pod_that_succeeded_and_was_deleted_is_not_run_again() {
        let (job, now) = (job("completions: 1"), NOW.parse().expect("a time"));
        let mut ledger = Ledger::default();
        let quick = pod("a", "Succeeded", 0, "{terminated: {exitCode: 0}}");
        ledger.observe(&quick, true, now);
        let done = plan(&job, &[], &ledger, now);
        assert_eq!((done.create, done.status.succeeded), (0, Some(1)));
        assert!(condition(&done.status, "Complete").is_some());
    }
}
