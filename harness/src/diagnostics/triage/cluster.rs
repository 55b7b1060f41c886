//! Causes that the nodes' own views tell: slots that nobody serves.

use std::collections::BTreeMap;

use super::super::evidence::Evidence;
use crate::valkey::cluster_nodes::{ClusterNode, Flag};
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
        let replicas: Vec<&str> = nodes
            .replicas_of(&owner.id)
            .filter(|replica| !replica.has(&Flag::Failed))
            .map(ClusterNode::short_id)
            .collect();
        let why = match replicas.as_slice() {
            [] => "with every replica that it had".to_owned(),
            some => format!("and its replica {} did not take over", some.join(", ")),
        };
        let name = name_of(evidence, &owner.id, &owner.ip);
        let text = format!(
            "slots {} are uncovered: their owner {name} is gone, {why}",
            owner.slots.summary()
        );
        opinions.entry(text.clone()).or_insert((0, text)).0 += 1;
    }
    opinions
        .into_values()
        .max_by_key(|(count, _)| *count)
        .map(|(_, text)| text)
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
pub(super) fn name_of(evidence: &Evidence, id: &str, ip: &str) -> String {
    let had_address = format!("has address {ip}");
    let pod = evidence.timeline.iter().rev().find(|entry| {
        !ip.is_empty() && (entry.text == had_address || entry.text.ends_with(&format!("→ {ip}")))
    });
    match pod {
        Some(entry) => entry.subject.clone(),
        None => format!("node {}", id.get(..8).unwrap_or(id)),
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
                "slots {} are uncovered: their owner valkey-1 is gone, with every replica that it had",
                gone.slots
            )
        );
        let unknown = slots_are_uncovered(&evidence(&fixture, "192.0.2.1")).expect("recognised");
        assert!(
            unknown.contains(&format!("owner node {}", &id(1)[..8])),
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
