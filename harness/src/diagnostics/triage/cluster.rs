//! Causes that the nodes' own views tell: slots that nobody serves.

use std::collections::BTreeMap;

use super::super::evidence::Evidence;
use crate::valkey::cluster_nodes::{ClusterNode, ClusterNodes, Flag};
use crate::valkey::slots::SlotSet;

/// Slots whose owner is gone and that no replica has taken over, as most of the nodes that answered see it.
pub(super) fn slots_are_uncovered(evidence: &Evidence) -> Option<String> {
    let seen = evidence.observation.as_ref()?;
    let mut opinions: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (_, nodes) in seen.node_tables() {
        let failed = nodes
            .nodes
            .iter()
            .find(|node| node.has(&Flag::Failed) && !node.slots.is_empty());
        let Some(owner) = failed else { continue };
        let text = format!(
            "slot {} uncovered: owner {}{}",
            owner.slots.summary(),
            gone(evidence, owner),
            replicas_of(evidence, nodes, owner)
        );
        opinions.entry(text.clone()).or_insert((0, text)).0 += 1;
    }
    opinions
        .into_values()
        .max_by_key(|(count, _)| *count)
        .map(|(_, text)| text)
}

/// The owner, and whether its pod is there no more or merely its server.
fn gone(evidence: &Evidence, owner: &ClusterNode) -> String {
    let name = name_of(evidence, owner);
    let there = evidence.pods.iter().any(|pod| {
        pod.metadata.name.as_deref() == Some(name.as_str()) && pod.metadata.deletion_timestamp.is_none()
    });
    let known = !name.starts_with("node ");
    match (known, there) {
        (true, false) => format!("{name} was deleted"),
        (true, true) | (false, _) => format!("{name} has failed"),
    }
}

/// What became of the replicas that could have taken over.
fn replicas_of(evidence: &Evidence, nodes: &ClusterNodes, owner: &ClusterNode) -> String {
    let (failed, alive): (Vec<&ClusterNode>, Vec<&ClusterNode>) = nodes
        .replicas_of(&owner.id)
        .partition(|replica| replica.has(&Flag::Failed));
    let names: Vec<String> = alive.iter().map(|replica| name_of(evidence, replica)).collect();
    match (names.as_slice(), failed.len()) {
        ([], 0) => ", and had no replica".to_owned(),
        ([], 1) => " with its only replica".to_owned(),
        ([], several) => format!(" with all its {several} replicas"),
        (some, _) => format!(", and its replica {} did not take over", some.join(", ")),
    }
}

/// Slots that no node owns in any view, once a cluster was formed at all.
pub(super) fn slots_are_unassigned(evidence: &Evidence) -> Option<String> {
    let seen = evidence.observation.as_ref()?;
    let mut owned = SlotSet::default();
    for range in seen
        .node_tables()
        .flat_map(|(_, nodes)| &nodes.nodes)
        .flat_map(|node| node.slots.ranges())
    {
        owned.insert(*range);
    }
    let missing = SlotSet::full().difference(&owned);
    (!owned.is_empty() && !missing.is_empty()).then(|| {
        format!(
            "slots {} belong to nobody: no node that answered claims them",
            missing.summary()
        )
    })
}

/// As a person would call the node: the pod that had its address, where the evidence knows it.
pub(super) fn name_of(evidence: &Evidence, node: &ClusterNode) -> String {
    let ip = &node.ip;
    let had_address = format!("has address {ip}");
    let pod = evidence.timeline.iter().rev().find(|entry| {
        !ip.is_empty() && (entry.text == had_address || entry.text.ends_with(&format!("→ {ip}")))
    });
    match pod {
        Some(entry) => entry.subject.clone(),
        None => format!("node {}", node.short_id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::fixture::{Fixture, id};
    use crate::timeline::{Entry, Kind};

    /// Six nodes, of which valkey-1 and its only replica valkey-4 were deleted.
    fn shard_gone() -> Fixture {
        let mut fixture = Fixture::cluster(6, 1);
        for gone in [1, 4] {
            for role in ["master", "slave"] {
                let with_flag =
                    |flag: &str| format!("{} 10.244.0.{}:6379@16379 {role}{flag}", id(gone), gone + 10);
                fixture.edit_all(&with_flag(" "), &with_flag(",fail "));
            }
        }
        fixture
    }

    fn evidence(fixture: &Fixture, address: &str) -> Evidence {
        let entry = Entry {
            at_ms: 1,
            kind: Kind::Pod,
            subject: "valkey-1".into(),
            text: format!("has address {address}"),
            state: None,
        };
        Evidence {
            observation: Some(fixture.observation()),
            timeline: vec![entry],
            ..Evidence::default()
        }
    }

    #[test]
    fn a_shard_that_is_gone_is_named_by_its_slots_and_its_owner() {
        let fixture = shard_gone();
        let observation = fixture.observation();
        let (_, nodes) = observation.node_tables().next().expect("a node answered");
        let gone = nodes.by_id(&id(1)).expect("it is known").clone();
        assert!(gone.has(&Flag::Failed), "{gone:?}");
        let said = slots_are_uncovered(&evidence(&fixture, &gone.ip)).expect("recognised");
        assert_eq!(
            said,
            format!(
                "slot {} uncovered: owner valkey-1 was deleted with its only replica",
                gone.slots
            )
        );
        let unknown = slots_are_uncovered(&evidence(&fixture, "192.0.2.1")).expect("recognised");
        assert!(
            unknown.contains(&format!("owner node {} has failed", &id(1)[..8])),
            "{unknown}"
        );
    }

    #[test]
    fn a_healthy_cluster_has_no_such_cause() {
        let evidence = evidence(&Fixture::cluster(6, 1), "192.0.2.1");
        assert_eq!(slots_are_uncovered(&evidence), None);
        assert_eq!(slots_are_unassigned(&evidence), None);
        assert_eq!(
            slots_are_unassigned(&self::evidence(&Fixture::unformed(6), "192.0.2.1")),
            None
        );
    }
}
