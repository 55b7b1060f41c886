//! Nodes that a scale-up added can be removed again: no shard lives on the new pods alone.
//!
//! The chart's README describes the path 6 → 8 → 6. Without this promise, the path removes a
//! primary and all its replicas if draining is off or incomplete.

use std::collections::BTreeSet;

use super::Violation;
use super::forecast;
use valkey::observation::ClusterObservation;

/// The check's name.
pub const NAME: &str = "step_back";

/// Finds primaries without a synchronised replica on a pod that existed before the step. Only such
/// a replica stays when the step is taken back.
pub fn check(before: &ClusterObservation, now: &ClusterObservation) -> Vec<Violation> {
    if now.expected.replicas_per_primary == 0 {
        return Vec::new();
    }
    let old: BTreeSet<&str> = before.pods.iter().map(|pod| pod.name.as_str()).collect();
    let all = now.pods.iter().map(|pod| pod.name.clone());
    let added: Vec<String> = all.filter(|pod| !old.contains(pod.as_str())).collect();
    let stranded = forecast::losses(now, &added);
    stranded
        .into_iter()
        .map(|(pod, slots)| {
            let replicas = replicas_of(now, &pod);
            let seen = match replicas.as_slice() {
                [] => "it has none in sync".to_owned(),
                some => format!("all are on pods that would leave with it: {}", some.join(", ")),
            };
            Violation::new(
                NAME,
                format!("{pod}, owner of slots {}", slots.summary()),
                "a replica in sync on a pod that stays when the step is taken back",
                seen,
            )
        })
        .collect()
}

/// Returns the pods that say they follow the node of `pod`.
fn replicas_of(now: &ClusterObservation, pod: &str) -> Vec<String> {
    let myself = |wanted: &str| {
        let mut tables = now.node_tables().filter(|(viewer, _)| *viewer == wanted);
        tables.find_map(|(_, nodes)| nodes.myself())
    };
    let Some(id) = myself(pod).map(|node| node.id.as_str()) else {
        return Vec::new();
    };
    let all = now.pods.iter().map(|pod| pod.name.as_str());
    all.filter(|name| myself(name).and_then(|node| node.primary.as_deref()) == Some(id))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    /// Six pods, two of them new: `valkey-2` and, if `together`, `valkey-5` of the same shard.
    /// Otherwise `valkey-4` is the second new pod.
    fn found(together: bool) -> Vec<Violation> {
        let now = Fixture::cluster(6, 1).observation();
        let other = if together { "valkey-5" } else { "valkey-4" };
        let mut before = now.clone();
        before
            .pods
            .retain(|pod| pod.name != "valkey-2" && pod.name != other);
        check(&before, &now)
    }

    #[test]
    fn a_new_shard_needs_a_replica_on_an_old_pod() {
        assert_eq!(found(false), []);
        let violations = found(true);
        assert_eq!(violations.len(), 1);
        assert_eq!(
            violations[0].to_string(),
            "step_back: valkey-2, owner of slots 10923-16383: expected a replica in sync on a pod that stays when the \
             step is taken back, saw all are on pods that would leave with it: valkey-5"
        );
    }

    #[test]
    fn primaries_without_replicas_promise_nothing_here() {
        let now = Fixture::cluster(3, 0).observation();
        let mut before = now.clone();
        before.pods.truncate(2);
        assert_eq!(check(&before, &now), []);
    }
}
