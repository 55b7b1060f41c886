//! A removed node does not come back: `CLUSTER FORGET` bans it for 60 s, gossip goes on for longer.

use std::collections::BTreeMap;

use super::Violation;
use findings::merge_views;
use valkey::observation::ClusterObservation;

/// The check's name.
pub const NAME: &str = "forgotten";

/// Finds the `removed` nodes (ID to former pod) that any node still knows or knows again. Call it
/// again after the ban (60 s) and the node timeout.
pub fn check(observation: &ClusterObservation, removed: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (viewer, nodes) in observation.node_tables() {
        for node in &nodes.nodes {
            let Some(pod) = removed.get(&node.id) else {
                continue;
            };
            let seen = format!(
                "it is known at {} with flags {}",
                node.address(),
                node.flags_text()
            );
            let subject = format!("removed node {}, which was {pod}", node.short_id());
            violations
                .push(Violation::new(NAME, subject, "to be forgotten everywhere", seen).from_pod(viewer));
        }
    }
    merge_views(violations)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn one_peer_that_remembers_is_enough() {
        let mut fixture = Fixture::cluster(6, 1);
        let removed = "f".repeat(40);
        let known = BTreeMap::from([(removed.clone(), "valkey-6".to_owned())]);
        assert_eq!(check(&fixture.observation(), &known), []);
        fixture.append(
            "valkey-4",
            &format!("{removed} 10.244.0.30:6379@16379 master - 0 0 7 connected"),
        );
        let violations = check(&fixture.observation(), &known);
        assert_eq!(violations.len(), 1);
        assert_eq!(
            violations[0].to_string(),
            "forgotten: removed node ffffffff, which was valkey-6: expected to be forgotten everywhere, saw it is known \
             at 10.244.0.30:6379 with flags primary (as valkey-4 sees it)"
        );
    }
}
