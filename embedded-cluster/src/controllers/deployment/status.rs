//! The status of a Deployment, computed from its ReplicaSets.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::plan::{Strategy, replicas};
use crate::seconds::bounded;

/// The API server's default for `progressDeadlineSeconds`.
const DEFAULT_DEADLINE: i32 = 600;

/// Computes the status and the time at which it changes by itself.
pub(super) fn status(
    deployment: &Deployment,
    new: &ReplicaSet,
    all: &[&ReplicaSet],
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let known = deployment.status.clone().unwrap_or_default();
    let of = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
    let sum =
        |count: &dyn Fn(&ReplicaSet) -> i32| all.iter().map(|set| count(set)).fold(0, i32::saturating_add);
    let wanted = replicas(deployment);
    let total = sum(&|set| of(set).replicas);
    let available = sum(&|set| of(set).available_replicas.unwrap_or(0));
    let updated = of(new).replicas;
    let unless_zero = |count: i32| (count > 0).then_some(count);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: unless_zero(total),
        updated_replicas: unless_zero(updated),
        ready_replicas: unless_zero(sum(&|set| of(set).ready_replicas.unwrap_or(0))),
        available_replicas: unless_zero(available),
        unavailable_replicas: unless_zero(wanted.max(total).saturating_sub(available)),
        conditions: known.conditions.clone(),
        ..known.clone()
    };
    let tolerated = match Strategy::of(deployment) {
        Strategy::Recreate => 0,
        Strategy::Rolling { unavailable, .. } => unavailable,
    };
    let enough = available >= wanted - tolerated;
    let (reason, message) = match enough {
        true => ("MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => (
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        ),
    };
    set_condition(&mut status, "Available", enough, reason, message, false, now);
    let complete = updated == wanted && total == wanted && available == wanted;
    let again = progress(deployment, &mut status, &known, new, complete, now);
    (status, again)
}

/// Sets `Progressing` and returns the time of the deadline.
fn progress(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    known: &DeploymentStatus,
    new: &ReplicaSet,
    complete: bool,
    now: Timestamp,
) -> Option<Duration> {
    let name = new.name_any();
    if complete {
        let message = format!("ReplicaSet {name:?} has successfully progressed.");
        set_condition(
            status,
            "Progressing",
            true,
            "NewReplicaSetAvailable",
            &message,
            false,
            now,
        );
        return None;
    }
    let count = |count: Option<i32>| count.unwrap_or(0);
    let moved = count(status.updated_replicas) > count(known.updated_replicas)
        || count(status.replicas) < count(known.replicas)
        || count(status.ready_replicas) > count(known.ready_replicas)
        || count(status.available_replicas) > count(known.available_replicas)
        || known.observed_generation != status.observed_generation;
    let last = condition(known, "Progressing");
    let since = last
        .and_then(|last| last.last_update_time.as_ref())
        .map(|time| time.0);
    let limit = deployment
        .spec
        .progress_deadline_seconds
        .unwrap_or(DEFAULT_DEADLINE);
    let waited = since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
    match waited.filter(|_| !moved) {
        Some(waited) if waited >= bounded(limit) => {
            let message = format!("ReplicaSet {name:?} has timed out progressing.");
            set_condition(
                status,
                "Progressing",
                false,
                "ProgressDeadlineExceeded",
                &message,
                false,
                now,
            );
            None
        }
        Some(waited) => Some(bounded(limit) - waited),
        None => {
            let message = format!("ReplicaSet {name:?} is progressing.");
            set_condition(
                status,
                "Progressing",
                true,
                "ReplicaSetUpdated",
                &message,
                true,
                now,
            );
            Some(bounded(limit))
        }
    }
}

fn condition<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_.as_deref() == Some(kind))
}

fn set_condition(
    status: &mut DeploymentStatus,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    renewed: bool,
    now: Timestamp,
) {
    let value = if holds { "True" } else { "False" };
    let before = condition(status, kind).cloned();
    let same = before.as_ref().is_some_and(|before| {
        before.status.as_deref() == Some(value) && before.reason.as_deref() == Some(reason)
    });
    if same && !renewed {
        return;
    }
    let kept = before
        .filter(|before| before.status.as_deref() == Some(value))
        .and_then(|before| before.last_transition_time);
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_.as_deref() != Some(kind));
    conditions.push(DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(value.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(kept.unwrap_or(Time(now))),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(status: &DeploymentStatus) -> Vec<String> {
        let conditions = status.conditions.iter().flatten();
        conditions
            .map(|c| {
                [&c.type_, &c.status, &c.reason]
                    .map(|text| text.clone().unwrap_or_default())
                    .join(" ")
            })
            .collect()
    }

    #[test]
    fn a_deployment_progresses_completes_or_runs_out_of_time() {
        let mut deployment: Deployment = serde_yaml::from_str(
            "{metadata: {name: d, generation: 1}, spec: {replicas: 1, selector: {}, template: {}, progressDeadlineSeconds: 60, \
             strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}}}",
        )
        .expect("a Deployment");
        let set = |available: i32| -> ReplicaSet {
            serde_yaml::from_str(&format!(
                "{{metadata: {{name: d-1}}, status: {{replicas: 1, readyReplicas: {available}, availableReplicas: {available}}}}}"
            ))
            .expect("a ReplicaSet")
        };
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let after = |seconds: i64| start.checked_add(bounded(seconds)).expect("in range");
        let (starting, again) = status(&deployment, &set(0), &[&set(0)], start);
        assert_eq!(
            says(&starting),
            [
                "Available False MinimumReplicasUnavailable",
                "Progressing True ReplicaSetUpdated"
            ]
        );
        assert_eq!(
            (starting.unavailable_replicas, again),
            (Some(1), Some(bounded(60)))
        );
        deployment.status = Some(starting);
        let (late, _) = status(&deployment, &set(0), &[&set(0)], after(60));
        assert!(
            says(&late).contains(&"Progressing False ProgressDeadlineExceeded".to_owned()),
            "{late:?}"
        );
        let (done, again) = status(&deployment, &set(1), &[&set(1)], after(5));
        assert_eq!(
            says(&done),
            [
                "Available True MinimumReplicasAvailable",
                "Progressing True NewReplicaSetAvailable"
            ]
        );
        assert_eq!(
            (done.unavailable_replicas, done.available_replicas, again),
            (None, Some(1), None)
        );
    }
}
