//! The status of a StatefulSet, computed from its pods.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::identity::revision_of;
use crate::controllers::pods::{available_in, is_ready, is_terminating, phase};

/// The revisions in use.
pub(crate) struct Revisions {
    pub(crate) current: String,
    pub(crate) update: String,
    pub(crate) collision_count: i32,
}

/// Counts the pods. When the last pod has the update revision and is ready, makes that revision the
/// current one.
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
    let wanted = set.spec.replicas.unwrap_or(1);
    if !is_on_delete(set) && updated == wanted && ready == wanted {
        current = updated;
        current_revision.clone_from(&revisions.update);
    }
    StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas,
        ready_replicas: unless_zero(ready),
        available_replicas: Some(count(&|pod| {
            running_ready(pod) && available_in(pod, min_ready, now).is_some_and(|wait| wait.is_zero())
        })),
        current_replicas: unless_zero(current),
        updated_replicas: unless_zero(updated),
        current_revision: Some(current_revision),
        update_revision: Some(revisions.update.clone()),
        collision_count: Some(revisions.collision_count),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
    }
}

/// Returns a count as Kubernetes writes it: zero is left out (except for `replicas` and
/// `availableReplicas`).
fn unless_zero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
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
        let mut set = StatefulSet::default();
        set.spec.replicas = Some(2);
        status(
            &set,
            pods,
            &revisions,
            "2026-01-02T00:00:00Z".parse().expect("a time"),
        )
    }

    #[test]
    fn the_update_revision_becomes_current_with_the_last_ready_pod() {
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
        // While the last pod is replaced there are fewer pods than replicas, all of them new and
        // ready.
        let between = of(&[pod("new", "True", "")]);
        assert_eq!(between.current_revision.as_deref(), Some("old"));
    }

    #[test]
    fn zeros_are_left_out() {
        let none = serde_json::to_value(of(&[])).expect("JSON");
        for field in ["readyReplicas", "currentReplicas", "updatedReplicas"] {
            assert!(none.get(field).is_none(), "{field}: {none}");
        }
        assert_eq!(
            (&none["replicas"], &none["availableReplicas"]),
            (&0.into(), &0.into())
        );
    }

    #[test]
    fn a_terminating_pod_counts_as_a_replica_but_not_as_updated() {
        let status = of(&[pod("new", "True", ", deletionTimestamp: '2026-01-01T00:00:00Z'")]);
        assert_eq!((status.replicas, status.updated_replicas), (1, None));
    }
}
