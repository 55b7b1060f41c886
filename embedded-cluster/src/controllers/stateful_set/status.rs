//! What a StatefulSet's status says of its pods.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::identity::revision_of;
use crate::controllers::pods::{available_in, is_ready, is_terminating, phase};

/// The revisions in play.
pub(crate) struct Revisions {
    pub(crate) current: String,
    pub(crate) update: String,
    pub(crate) collision_count: i32,
}

/// Counts the pods and, when the last of them is at the update revision and ready, makes that the current one.
pub(crate) fn status(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    revisions: &Revisions,
    now: Timestamp,
) -> StatefulSetStatus {
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let count = |holds: &dyn Fn(&Pod) -> bool| {
        i32::try_from(pods.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX)
    };
    let running_ready = |pod: &Pod| phase(pod) == "Running" && is_ready(pod);
    let at = |pod: &Pod, revision: &str| !is_terminating(pod) && revision_of(pod) == Some(revision);
    let replicas = count(&|_| true);
    let ready = count(&running_ready);
    let updated = count(&|pod| at(pod, &revisions.update));
    let mut current = count(&|pod| at(pod, &revisions.current));
    let mut current_revision = revisions.current.clone();
    if !is_on_delete(set) && updated == replicas && ready == replicas {
        current = updated;
        current_revision.clone_from(&revisions.update);
    }
    StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas,
        ready_replicas: Some(ready),
        available_replicas: Some(count(&|pod| {
            running_ready(pod) && available_in(pod, min_ready, now).is_some_and(|wait| wait.is_zero())
        })),
        current_replicas: Some(current),
        updated_replicas: Some(updated),
        current_revision: Some(current_revision),
        update_revision: Some(revisions.update.clone()),
        collision_count: Some(revisions.collision_count),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
    }
}

fn is_on_delete(set: &StatefulSet) -> bool {
    let strategy = set.spec.update_strategy.as_ref();
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(revision: &str, ready: &str, extra: &str) -> Arc<Pod> {
        let pod = serde_yaml::from_str(&format!(
            "{{metadata: {{labels: {{controller-revision-hash: {revision}}}{extra}}}, status: {{phase: Running, \
             conditions: [{{type: Ready, status: '{ready}', lastTransitionTime: '2026-01-01T00:00:00Z'}}]}}}}"
        ));
        Arc::new(pod.expect("a Pod"))
    }

    fn of(pods: &[Arc<Pod>]) -> StatefulSetStatus {
        let revisions = Revisions {
            current: "old".into(),
            update: "new".into(),
            collision_count: 0,
        };
        status(
            &StatefulSet::default(),
            pods,
            &revisions,
            "2026-01-02T00:00:00Z".parse().expect("a time"),
        )
    }

    #[test]
    fn the_update_revision_becomes_current_when_the_last_pod_is_ready() {
        let rolling = of(&[pod("old", "True", ""), pod("new", "True", "")]);
        assert_eq!(
            (rolling.current_replicas, rolling.updated_replicas),
            (Some(1), Some(1))
        );
        assert_eq!(rolling.current_revision.as_deref(), Some("old"));
        let waiting = of(&[pod("new", "True", ""), pod("new", "False", "")]);
        assert_eq!(
            (waiting.ready_replicas, waiting.current_revision.as_deref()),
            (Some(1), Some("old"))
        );
        let done = of(&[pod("new", "True", ""), pod("new", "True", "")]);
        assert_eq!(
            (done.current_replicas, done.current_revision.as_deref()),
            (Some(2), Some("new"))
        );
    }

    #[test]
    fn a_terminating_pod_counts_as_a_replica_but_not_as_updated() {
        let status = of(&[pod("new", "True", ", deletionTimestamp: '2026-01-01T00:00:00Z'")]);
        assert_eq!((status.replicas, status.updated_replicas), (1, Some(0)));
    }
}
