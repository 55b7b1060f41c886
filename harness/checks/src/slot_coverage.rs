//! Every slot has exactly one live owner, the same in all views, and no slot is half moved.
//!
//! Every node is queried, as most failures here look healthy from one of the nodes. The addresses
//! of the *other* nodes, replicas included, are checked by [`super::announce`].

use std::collections::BTreeMap;

use super::{Violation, announce};
use findings::merge_views;
use valkey::cluster_nodes::{ClusterNode, ClusterNodes, Flag};
use valkey::observation::{ClusterObservation, Mode};
use valkey::slots::{self, SlotSet};

/// The check's name.
pub const NAME: &str = "slot_coverage";

/// Finds slots without exactly one owner, and owners that are not live pods of this release. Also
/// finds views that differ, and leftovers.
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

/// Finds slots with no owner and slots with several, grouped by their claimants.
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
                violations.push(Violation::new(NAME, subject(&set), "no open slot", seen).from_pod(pod));
            }
        }
    }
    violations
}

/// Finds entries in a bad state, and entries that are no pod of this release.
fn troubled_entries(observation: &ClusterObservation, pod: &str, nodes: &ClusterNodes) -> Vec<Violation> {
    let bad = [
        Flag::Failed,
        Flag::PossiblyFailed,
        Flag::Handshake,
        Flag::NoAddress,
    ];
    let mut violations = Vec::new();
    for node in &nodes.nodes {
        let name = entry_name(observation, node);
        let trouble = bad.iter().filter(|flag| node.has(flag));
        let flags: Vec<String> = trouble.map(ToString::to_string).collect();
        if !flags.is_empty() {
            violations.push(
                Violation::new(
                    NAME,
                    &name,
                    "a healthy entry",
                    format!("flags {}", flags.join(",")),
                )
                .from_pod(pod),
            );
        } else if !is_of_this_release(observation, node) {
            let seen = format!("an unknown node at {} that owns {}", node.address(), owned(node));
            violations.push(Violation::new(NAME, &name, "only nodes of this release", seen).from_pod(pod));
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

/// Returns true if a pod says that it is `node`, or if a silent pod has the node's address.
fn is_of_this_release(observation: &ClusterObservation, node: &ClusterNode) -> bool {
    observation.pod_of_node(&node.id).is_some()
        || observation
            .pod_by_ip(&node.ip)
            .is_some_and(|pod| !matches!(observation.views.get(&pod.name), Some(Ok(_))))
}

/// Finds owners that do not announce the current address of a live pod.
fn owners_are_pods(observation: &ClusterObservation, pod: &str, nodes: &ClusterNodes) -> Vec<Violation> {
    let mut violations = Vec::new();
    for node in nodes.nodes.iter().filter(|node| !node.slots.is_empty()) {
        // `troubled_entries` reports nodes that are unknown or in a bad state.
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
                .from_pod(pod),
            );
        }
        if facts.terminating {
            violations.push(Violation::new(
                NAME,
                &subject,
                "a live owner",
                "its pod is terminating",
            ));
        }
    }
    violations
}

/// Finds views that name another owner of a slot than most views do.
fn disagreements(observation: &ClusterObservation) -> Vec<Violation> {
    type Owner<'a> = Option<&'a str>;
    let views: Vec<(&str, &ClusterNodes)> = observation.node_tables().collect();
    let sets = views
        .iter()
        .flat_map(|(_, nodes)| &nodes.nodes)
        .map(|node| &node.slots);
    // Key: viewer, majority owner, viewer's owner. Value: the slots, and the number of majority
    // votes.
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
            Violation::new(NAME, format!("owner of {}", subject(&set)), expected, name(seen)).from_pod(pod)
        })
        .collect()
}

#[cfg(test)]
#[path = "slot_coverage_tests.rs"]
mod tests;
