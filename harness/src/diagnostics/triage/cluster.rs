//! Causes that the nodes' own views show: slots without a reachable owner.

use std::collections::BTreeMap;

use super::super::cause::Cause;
use super::super::evidence::Evidence;
use crate::valkey::cluster_nodes::{ClusterNode, ClusterNodes, Flag};
use crate::valkey::slots::SlotSet;

/// Recognises a pod that came back as another node. The other nodes still assign slots to its
/// former node.
pub(super) fn node_identity_is_lost(evidence: &Evidence) -> Option<Cause> {
    let seen = evidence.observation.as_ref()?;
    seen.node_tables().find_map(|(_, nodes)| {
        let gone = nodes
            .nodes
            .iter()
            .find(|node| node.has(&Flag::Failed) && !node.slots.is_empty())?;
        let pod = name_of(evidence, gone);
        let (_, own) = seen.node_tables().find(|(name, _)| *name == pod)?;
        let now = own.myself().filter(|myself| myself.id != gone.id)?;
        Some(Cause::NodeIdentityIsLost {
            pod,
            before: gone.id.clone(),
            now: now.id.clone(),
            slots: gone.slots.summary(),
        })
    })
}

/// Recognises slots that lost their owner and that no replica has taken over. The view that most of
/// the answering nodes share decides.
pub(super) fn slots_are_uncovered(evidence: &Evidence) -> Option<Cause> {
    let seen = evidence.observation.as_ref()?;
    let mut opinions: BTreeMap<String, (usize, Cause)> = BTreeMap::new();
    for (_, nodes) in seen.node_tables() {
        let failed = nodes
            .nodes
            .iter()
            .find(|node| node.has(&Flag::Failed) && !node.slots.is_empty());
        let Some(owner) = failed else { continue };
        let name = name_of(evidence, owner);
        let opinion = Cause::SlotsAreUncovered {
            slots: owner.slots.summary(),
            fate: fate(evidence, &name).to_owned(),
            replicas: replicas_of(evidence, nodes, owner),
            owner: name,
        };
        opinions.entry(opinion.to_string()).or_insert((0, opinion)).0 += 1;
    }
    opinions
        .into_values()
        .max_by_key(|(count, _)| *count)
        .map(|(_, opinion)| opinion)
}

/// Distinguishes a deleted pod from a failed server.
fn fate(evidence: &Evidence, name: &str) -> &'static str {
    let there = evidence
        .pods
        .iter()
        .any(|pod| pod.metadata.name.as_deref() == Some(name) && pod.metadata.deletion_timestamp.is_none());
    let known = !name.starts_with("node ");
    match (known, there) {
        (true, false) => "was deleted",
        (true, true) | (false, _) => "has failed",
    }
}

/// Returns the state of the replicas that could have taken over.
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

/// Recognises slots that no node owns in any view, provided that a cluster was formed.
pub(super) fn slots_are_unassigned(evidence: &Evidence) -> Option<Cause> {
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
    (!owned.is_empty() && !missing.is_empty()).then(|| Cause::SlotsAreUnassigned {
        slots: missing.summary(),
    })
}

/// Returns the node's name for people: the pod that had its address, where the evidence has it.
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
    use crate::timeline::{Entry, EntryKind};

    /// Returns six nodes; valkey-1 and its only replica valkey-4 were deleted.
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
            kind: EntryKind::Pod,
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
        let said = slots_are_uncovered(&evidence(&fixture, &gone.ip))
            .expect("recognised")
            .to_string();
        assert_eq!(
            said,
            format!(
                "slot {} uncovered: owner valkey-1 was deleted with its only replica",
                gone.slots
            )
        );
        let unknown = slots_are_uncovered(&evidence(&fixture, "192.0.2.1"))
            .expect("recognised")
            .to_string();
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

    #[test]
    fn a_pod_back_as_another_node_is_told_from_a_failed_one() {
        let mut fixture = Fixture::cluster(6, 1);
        let before = "e".repeat(40);
        // The former node of valkey-1 owns a slot, and its pod now runs as another node.
        fixture.append(
            "valkey-0",
            &format!("{before} 10.244.0.11:6379@16379 master,fail - 0 0 9 disconnected 5461"),
        );
        let evidence = evidence(&fixture, "10.244.0.11");
        let said = node_identity_is_lost(&evidence).expect("recognised").to_string();
        assert!(
            said.starts_with("pod valkey-1 came back as another node (11111111, it was eeeeeeee)"),
            "{said}"
        );
        assert_eq!(
            node_identity_is_lost(&self::evidence(&Fixture::cluster(6, 1), "10.244.0.11")),
            None
        );
    }
}
