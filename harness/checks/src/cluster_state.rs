//! Every node's own `CLUSTER INFO` says ok, with all slots served and the expected nodes known.

use super::Violation;
use valkey::cluster_info::ClusterInfo;
use valkey::observation::{ClusterObservation, ExpectedTopology, Mode};
use valkey::slots::SLOT_COUNT;

/// The check's name.
pub const NAME: &str = "cluster_state";

/// Finds every field of every node's `CLUSTER INFO` that is not as promised.
pub fn check(observation: &ClusterObservation) -> Vec<Violation> {
    if observation.expected.mode == Mode::Standalone {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (pod, view) in observation.answered() {
        match &view.cluster_info {
            Some(info) => violations.extend(fields(&observation.expected, pod, info)),
            None => {
                let seen = "a server without cluster support";
                violations.push(Violation::new(NAME, pod, "a cluster node", seen).from_pod(pod));
            }
        }
    }
    violations
}

fn fields(expected: &ExpectedTopology, pod: &str, info: &ClusterInfo) -> Vec<Violation> {
    let mut violations = Vec::new();
    if !info.is_ok() {
        let seen = format!("cluster_state:{}", info.cluster_state);
        violations.push(Violation::new(NAME, pod, "cluster_state:ok", seen).from_pod(pod));
    }
    let slots = u32::from(SLOT_COUNT);
    let fields = [
        ("cluster_slots_assigned", info.cluster_slots_assigned, slots),
        ("cluster_slots_ok", info.cluster_slots_ok, slots),
        ("cluster_slots_pfail", info.cluster_slots_pfail, 0),
        ("cluster_slots_fail", info.cluster_slots_fail, 0),
        ("cluster_known_nodes", info.cluster_known_nodes, expected.pods),
        ("cluster_size", info.cluster_size, expected.primaries()),
    ];
    for (name, seen, expected) in fields.into_iter().filter(|field| field.1 != field.2) {
        let (expected, seen) = (format!("{name}:{expected}"), format!("{name}:{seen}"));
        violations.push(Violation::new(NAME, pod, expected, seen).from_pod(pod));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn one_nodes_fail_is_seen_although_the_others_are_ok() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_cluster_info("valkey-4", "cluster_state:ok", "cluster_state:fail");
        let violations = check(&fixture.observation());
        assert_eq!(violations.len(), 1);
        assert_eq!(
            violations[0].to_string(),
            "cluster_state: valkey-4: expected cluster_state:ok, saw cluster_state:fail (as valkey-4 sees it)"
        );
    }

    #[test]
    fn a_node_that_knows_too_many_is_named() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_cluster_info("valkey-1", "cluster_known_nodes:6", "cluster_known_nodes:8");
        let violations = check(&fixture.observation());
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].expected, "cluster_known_nodes:6");
        assert_eq!(violations[0].viewed_from, ["valkey-1"]);
    }

    #[test]
    fn slots_without_an_owner_are_named() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_cluster_info(
            "valkey-0",
            "cluster_slots_assigned:16384",
            "cluster_slots_assigned:10923",
        );
        assert_eq!(
            check(&fixture.observation())[0].seen,
            "cluster_slots_assigned:10923"
        );
    }
}
