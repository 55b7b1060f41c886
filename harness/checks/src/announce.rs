//! Every node and all its peers know the node under its pod's current address.
//!
//! A stale address can kill a cluster on a restart: the node is alive, but nobody finds it.

use super::Violation;
use findings::merge_views;
use valkey::observation::{ClusterObservation, Mode};

/// The check's name.
pub const NAME: &str = "announce";

/// Finds nodes that announce an address other than their pod's, or that a peer knows under one.
/// Also finds nodes that a peer does not know.
pub fn check(observation: &ClusterObservation) -> Vec<Violation> {
    if observation.expected.mode == Mode::Standalone {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (subject_pod, own_table) in observation.node_tables() {
        let Some(myself) = own_table.myself() else {
            let seen = "a CLUSTER NODES without myself";
            violations
                .push(Violation::new(NAME, subject_pod, "a line for itself", seen).from_pod(subject_pod));
            continue;
        };
        let facts = observation.pods.iter().find(|facts| facts.name == subject_pod);
        let Some(current) = facts.and_then(|facts| facts.ip.as_deref()) else {
            continue;
        };
        for (viewer, table) in observation.node_tables() {
            let expected = format!("announced at its pod's address {current}");
            let Some(entry) = table.by_id(&myself.id) else {
                violations.push(
                    Violation::new(NAME, subject_pod, expected, "a node that is not known").from_pod(viewer),
                );
                continue;
            };
            if entry.ip != current {
                let seen = describe(observation, &entry.ip);
                let violation = Violation::new(NAME, subject_pod, expected, seen).from_pod(viewer);
                // What it says of itself does not heal by gossip.
                violations.push(violation);
            }
        }
    }
    merge_views(violations)
}

/// Renders an address and the pod that has it now.
pub(crate) fn describe(observation: &ClusterObservation, ip: &str) -> String {
    if ip.is_empty() {
        return "no address".to_owned();
    }
    match observation.pod_by_ip(ip) {
        Some(pod) => format!("{ip}, which is {} now", pod.name),
        None => format!("{ip}, which is not a pod of this release"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, id};
    use super::*;

    #[test]
    fn a_node_that_announces_a_stale_address_is_named_in_every_view() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_all("10.244.0.14:6379", "10.244.0.54:6379");
        let violations = check(&fixture.observation());
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].subject, "valkey-4");
        assert_eq!(
            violations[0].seen,
            "10.244.0.54, which is not a pod of this release"
        );
        assert_eq!(violations[0].viewed_from.len(), 6);
    }

    #[test]
    fn a_peer_with_a_stale_entry_is_named_alone() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit("valkey-2", "10.244.0.15:6379", "10.244.0.10:6379");
        let violations = check(&fixture.observation());
        assert_eq!(violations.len(), 1);
        assert_eq!(
            violations[0].to_string(),
            "announce: valkey-5: expected announced at its pod's address 10.244.0.15, saw 10.244.0.10, which is \
             valkey-0 now (as valkey-2 sees it)"
        );
    }

    #[test]
    fn a_node_one_peer_does_not_know_is_named() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.remove_line("valkey-1", &format!("{} 10.", id(3)));
        let violations = check(&fixture.observation());
        assert_eq!(violations.len(), 1);
        assert_eq!(
            (
                violations[0].subject.as_str(),
                violations[0].viewed_from[0].as_str()
            ),
            ("valkey-3", "valkey-1")
        );
        assert_eq!(violations[0].seen, "a node that is not known");
    }
}
