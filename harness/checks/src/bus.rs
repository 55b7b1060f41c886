//! Every node has a bus link to every other: a blocked bus port prevents failovers.

use super::Violation;
use valkey::cluster_nodes::Flag;
use valkey::observation::{ClusterObservation, Mode};

/// The check's name.
pub const NAME: &str = "bus";

/// Finds pairs of nodes without a link. [`slot_coverage`](super::slot_coverage) reports the entries
/// that are dead anyway.
pub fn check(observation: &ClusterObservation) -> Vec<Violation> {
    if observation.expected.mode == Mode::Standalone {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (pod, nodes) in observation.node_tables() {
        let dead = [
            Flag::Failed,
            Flag::PossiblyFailed,
            Flag::Handshake,
            Flag::NoAddress,
            Flag::Myself,
        ];
        let cut: Vec<String> = nodes
            .nodes
            .iter()
            .filter(|node| !node.link_connected && !dead.iter().any(|flag| node.has(flag)))
            .map(|node| {
                let port = node.bus_port.map(|port| port.to_string()).unwrap_or_default();
                format!("{} at {}:{port}", observation.node_name(&node.id), node.ip)
            })
            .collect();
        if !cut.is_empty() {
            violations.push(
                Violation::new(
                    NAME,
                    pod,
                    "a bus link to every other node",
                    format!("none to {}", cut.join(", ")),
                )
                .from_pod(pod),
            );
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn a_cut_pair_is_named() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit("valkey-5", "2 connected 5461-10922", "2 disconnected 5461-10922");
        let violations = check(&fixture.observation());
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].subject, "valkey-5");
        assert_eq!(
            violations[0].seen,
            "none to valkey-1 (11111111) at 10.244.0.11:16379"
        );
    }
}
