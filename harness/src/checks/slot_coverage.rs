//! Every slot has exactly one live owner, the same in all views, and no slot is half moved.
//!
//! Asked of every node: most of what goes wrong here looks healthy from one of them. That the *other* nodes'
//! addresses are right, replicas included, is [`announce`](super::announce)'s business.

use std::collections::BTreeMap;

use super::violation::merge_views;
use super::{Violation, announce};
use crate::valkey::cluster_nodes::{ClusterNode, ClusterNodes, Flag};
use crate::valkey::observation::{ClusterObservation, Mode};
use crate::valkey::slots::{self, SlotSet};

/// The check's name.
pub const NAME: &str = "slot_coverage";

const MOVING: &str = "a slot is being moved";
const JOINING: &str = "nodes join or leave";

/// Slots without exactly one owner, owners that are not live pods of this release, views that differ, leftovers.
pub fn check(observation: &ClusterObservation) -> Vec<Violation> {
    if observation.expected.mode == Mode::Standalone {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (pod, nodes) in observation.node_tables() {
        violations.extend(owner_counts(observation, pod, nodes));
        violations.extend(open_slots(observation, pod, nodes));
        violations.extend(troubled_entries(observation, pod, nodes));
        violations.extend(owners_are_pods(observation, pod, nodes));
    }
    violations.extend(disagreements(observation));
    merge_views(violations)
}

/// Slots with no owner and slots with several, grouped by who claims them.
fn owner_counts(observation: &ClusterObservation, pod: &str, nodes: &ClusterNodes) -> Vec<Violation> {
    let mut wrong: BTreeMap<Vec<&str>, SlotSet> = BTreeMap::new();
    for piece in slots::pieces(nodes.nodes.iter().map(|node| &node.slots)) {
        let owners: Vec<&str> = nodes
            .owners_of(piece.start)
            .map(|node| node.id.as_str())
            .collect();
        if owners.len() != 1 {
            wrong.entry(owners).or_default().insert(piece);
        }
    }
    wrong
        .into_iter()
        .map(|(owners, set)| {
            let seen = if owners.is_empty() {
                "no owner".to_owned()
            } else {
                let names: Vec<String> = owners.iter().map(|id| observation.node_name(id)).collect();
                format!("{} owners: {}", names.len(), names.join(", "))
            };
            Violation::new(NAME, subject(&set), "exactly one owner", seen).from_pod(pod)
        })
        .collect()
}

fn subject(set: &SlotSet) -> String {
    let (noun, count) = if set.len() == 1 {
        ("slot", String::new())
    } else {
        ("slots", format!(" ({})", set.len()))
    };
    format!("{noun} {set}{count}")
}

fn open_slots(observation: &ClusterObservation, pod: &str, nodes: &ClusterNodes) -> Vec<Violation> {
    let mut violations = Vec::new();
    for node in &nodes.nodes {
        let directions = [
            ("migrating to", &node.migrating),
            ("importing from", &node.importing),
        ];
        for (direction, open) in directions {
            let mut by_peer: BTreeMap<&str, SlotSet> = BTreeMap::new();
            for (&slot, peer) in open {
                by_peer.entry(peer).or_default().insert(slots::SlotRange {
                    start: slot,
                    end: slot,
                });
            }
            for (peer, set) in by_peer {
                let seen = format!(
                    "{} {direction} {}",
                    observation.node_name(&node.id),
                    observation.node_name(peer)
                );
                violations.push(
                    Violation::new(NAME, subject(&set), "no open slot", seen)
                        .from_pod(pod)
                        .legal_while(MOVING),
                );
            }
        }
    }
    violations
}

/// Entries in a bad state, and entries that are no pod of this release.
fn troubled_entries(observation: &ClusterObservation, pod: &str, nodes: &ClusterNodes) -> Vec<Violation> {
    let bad = [
        (Flag::Failed, "a node is being replaced or failed over"),
        (Flag::PossiblyFailed, "a node was slow to answer"),
        (Flag::Handshake, JOINING),
        (Flag::NoAddress, JOINING),
    ];
    let mut violations = Vec::new();
    for node in &nodes.nodes {
        let name = entry_name(observation, node);
        let mut trouble = bad.iter().filter(|(flag, _)| node.has(flag)).peekable();
        let legal_while = trouble.peek().map(|(_, circumstance)| *circumstance);
        if let Some(circumstance) = legal_while {
            let flags: Vec<String> = trouble.map(|(flag, _)| flag.to_string()).collect();
            violations.push(
                Violation::new(
                    NAME,
                    &name,
                    "a healthy entry",
                    format!("flags {}", flags.join(",")),
                )
                .from_pod(pod)
                .legal_while(circumstance),
            );
        } else if !is_of_this_release(observation, node) {
            let seen = format!("an unknown node at {} that owns {}", node.address(), owned(node));
            violations.push(
                Violation::new(NAME, &name, "only nodes of this release", seen)
                    .from_pod(pod)
                    .legal_while(JOINING),
            );
        }
    }
    violations
}

fn entry_name(observation: &ClusterObservation, node: &ClusterNode) -> String {
    format!(
        "entry of {} at {}",
        observation.node_name(&node.id),
        node.address()
    )
}

fn owned(node: &ClusterNode) -> String {
    if node.slots.is_empty() {
        "no slots".to_owned()
    } else {
        format!("slots {}", node.slots)
    }
}

/// A node is ours when a pod says it is that node, or when a pod that does not answer has its address.
fn is_of_this_release(observation: &ClusterObservation, node: &ClusterNode) -> bool {
    observation.pod_of_node(&node.id).is_some()
        || observation
            .pod_by_ip(&node.ip)
            .is_some_and(|pod| !matches!(observation.views.get(&pod.name), Some(Ok(_))))
}

/// Owners whose announced address is not the current one of a live pod.
fn owners_are_pods(observation: &ClusterObservation, pod: &str, nodes: &ClusterNodes) -> Vec<Violation> {
    let mut violations = Vec::new();
    for node in nodes.nodes.iter().filter(|node| !node.slots.is_empty()) {
        // A node that is unknown or in a bad state has been reported as such.
        let Some(owner) = observation.pod_of_node(&node.id) else {
            continue;
        };
        let Some(facts) = observation.pods.iter().find(|facts| facts.name == owner) else {
            continue;
        };
        let subject = format!("owner of slots {}, {owner}", node.slots);
        if node.is_replica() {
            let seen = "a replica that owns slots";
            violations.push(Violation::new(NAME, &subject, "a primary", seen).from_pod(pod));
        }
        if let Some(current) = facts.ip.as_deref().filter(|ip| *ip != node.ip) {
            violations.push(
                Violation::new(
                    NAME,
                    &subject,
                    format!("the pod's current address {current}"),
                    announce::describe(observation, &node.ip),
                )
                .from_pod(pod)
                .legal_while(JOINING),
            );
        }
        if facts.terminating {
            violations.push(
                Violation::new(NAME, &subject, "a live owner", "its pod is terminating").legal_while(JOINING),
            );
        }
    }
    violations
}

/// Views whose owner of a slot is not the one most views name.
fn disagreements(observation: &ClusterObservation) -> Vec<Violation> {
    type Owner<'a> = Option<&'a str>;
    let views: Vec<(&str, &ClusterNodes)> = observation.node_tables().collect();
    let sets = views
        .iter()
        .flat_map(|(_, nodes)| &nodes.nodes)
        .map(|node| &node.slots);
    // By viewer, owner most name and owner it names: the slots, and how many name the former.
    let mut differing: BTreeMap<(&str, Owner<'_>, Owner<'_>), (SlotSet, usize)> = BTreeMap::new();
    for piece in slots::pieces(sets) {
        let named: Vec<(&str, Owner<'_>)> = views
            .iter()
            .map(|(pod, nodes)| {
                (
                    *pod,
                    nodes.owners_of(piece.start).next().map(|node| node.id.as_str()),
                )
            })
            .collect();
        let mut votes: BTreeMap<Owner<'_>, usize> = BTreeMap::new();
        for (_, owner) in &named {
            *votes.entry(*owner).or_default() += 1;
        }
        let Some((&agreed, &count)) = votes.iter().max_by_key(|(_, count)| **count) else {
            continue;
        };
        for (pod, owner) in named.into_iter().filter(|(_, owner)| *owner != agreed) {
            let entry = differing.entry((pod, agreed, owner)).or_default();
            entry.0.insert(piece);
            entry.1 = count;
        }
    }
    let name = |id: Option<&str>| id.map_or("no owner".to_owned(), |id| observation.node_name(id));
    differing
        .into_iter()
        .map(|((pod, agreed, seen), (set, count))| {
            let expected = format!("{}, as {count} of {} nodes say", name(agreed), views.len());
            Violation::new(NAME, format!("owner of {}", subject(&set)), expected, name(seen))
                .from_pod(pod)
                .legal_while("the nodes have not heard of a move yet")
        })
        .collect()
}

#[cfg(test)]
#[path = "slot_coverage_tests.rs"]
mod tests;
