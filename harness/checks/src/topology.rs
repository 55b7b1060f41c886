//! The expected primaries, each with its replicas; equal roles, shards and epochs in every view.
//!
//! The chart does not promise which pod is a primary: roles do not follow ordinals.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use findings::merge_views;
use valkey::cluster_nodes::{ClusterNode, ClusterNodes, Flag};
use valkey::info::Role;
use valkey::observation::{ClusterObservation, Mode};

/// The check's name.
pub const NAME: &str = "topology";

/// Finds surplus and missing primaries, and primaries without replicas. Also finds inconsistent
/// roles, shards and epochs.
pub fn check(observation: &ClusterObservation) -> Vec<Violation> {
    let mut violations = Vec::new();
    if observation.expected.mode == Mode::Standalone {
        for (pod, view) in observation
            .answered()
            .filter(|(_, view)| view.replication.role != Role::Primary)
        {
            let seen = format!(
                "a replica of {}",
                view.replication.primary_host.as_deref().unwrap_or("nobody")
            );
            violations.push(Violation::new(NAME, pod, "an independent server", seen).from_pod(pod));
        }
        return violations;
    }
    for (pod, nodes) in observation.node_tables() {
        violations.extend(primary_count(observation, pod, nodes));
        violations.extend(replica_counts(observation, pod, nodes));
        violations.extend(own_role(observation, pod, nodes));
        violations.extend(epochs(observation, pod, nodes));
        violations.extend(shard_members(observation, pod));
    }
    violations.extend(roles_agree(observation));
    violations.extend(shard_ids_agree(observation));
    merge_views(violations)
}

/// Returns the nodes that are neither joining nor leaving; slot_coverage reports the others.
fn settled(nodes: &ClusterNodes) -> impl Iterator<Item = &ClusterNode> {
    nodes
        .nodes
        .iter()
        .filter(|node| !node.has(&Flag::Handshake) && !node.has(&Flag::NoAddress) && !node.has(&Flag::Failed))
}

fn primary_count(observation: &ClusterObservation, pod: &str, nodes: &ClusterNodes) -> Vec<Violation> {
    let (with_slots, without): (Vec<_>, Vec<_>) = settled(nodes)
        .filter(|node| node.is_primary())
        .partition(|node| !node.slots.is_empty());
    let expected = observation.expected.primaries();
    let mut violations = Vec::new();
    if u32::try_from(with_slots.len()) != Ok(expected) {
        let names: Vec<String> = with_slots
            .iter()
            .map(|node| observation.node_name(&node.id))
            .collect();
        violations.push(
            Violation::new(
                NAME,
                "primaries with slots",
                expected.to_string(),
                with_slots.len().to_string(),
            )
            .from_pod(pod)
            .with_evidence(format!("primaries: {}", names.join(", "))),
        );
    }
    for node in without
        .into_iter()
        .filter(|node| observation.pod_of_node(&node.id).is_some())
    {
        let name = observation.node_name(&node.id);
        violations.push(
            Violation::new(
                NAME,
                name,
                "a primary with slots or a replica",
                "a primary without slots",
            )
            .from_pod(pod),
        );
    }
    violations
}

/// Checks the number of replicas of each primary. Allows more than promised. Surplus pods become
/// extra replicas: 7 pods with one replica each give 3 primaries with 2+1+1.
fn replica_counts(observation: &ClusterObservation, pod: &str, nodes: &ClusterNodes) -> Vec<Violation> {
    let expected = usize::try_from(observation.expected.replicas_per_primary).unwrap_or(usize::MAX);
    settled(nodes)
        .filter(|node| node.is_primary() && !node.slots.is_empty())
        .filter_map(|primary| {
            let replicas: Vec<String> = settled(nodes)
                .filter(|node| node.is_replica() && node.primary.as_deref() == Some(&primary.id))
                .map(|node| observation.node_name(&node.id))
                .collect();
            (replicas.len() < expected).then(|| {
                let name = observation.node_name(&primary.id);
                Violation::new(
                    NAME,
                    format!("replicas of {name}, owner of slots {}", primary.slots),
                    format!("at least {expected}"),
                    format!("{} [{}]", replicas.len(), replicas.join(", ")),
                )
                .from_pod(pod)
            })
        })
        .collect()
}

/// Compares a node's role on the cluster bus with the role of its replication.
fn own_role(observation: &ClusterObservation, pod: &str, nodes: &ClusterNodes) -> Option<Violation> {
    let myself = nodes.myself()?;
    let role = observation.views.get(pod)?.as_ref().ok()?.replication.role;
    let table = if myself.is_primary() {
        Role::Primary
    } else {
        Role::Replica
    };
    (role != table).then(|| {
        let expected = format!("role {table:?}, as in its CLUSTER NODES").to_lowercase();
        let seen = format!("role {role:?} in INFO replication").to_lowercase();
        Violation::new(NAME, pod, expected, seen).from_pod(pod)
    })
}

/// Finds primaries with equal config epochs. Only the node ID orders such primaries, so the older
/// claim may win.
fn epochs(observation: &ClusterObservation, pod: &str, nodes: &ClusterNodes) -> Vec<Violation> {
    let mut by_epoch: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for node in settled(nodes).filter(|node| node.is_primary() && !node.slots.is_empty()) {
        by_epoch
            .entry(node.config_epoch)
            .or_default()
            .push(observation.node_name(&node.id));
    }
    by_epoch
        .into_iter()
        .filter(|(_, names)| names.len() > 1)
        .map(|(epoch, names)| {
            let seen = format!("{} share it", names.join(", "));
            Violation::new(NAME, format!("config epoch {epoch}"), "one primary", seen).from_pod(pod)
        })
        .collect()
}

/// Checks that every shard of a node's `CLUSTER SHARDS` has exactly one primary.
fn shard_members(observation: &ClusterObservation, pod: &str) -> Vec<Violation> {
    let Some(Ok(view)) = observation.views.get(pod) else {
        return Vec::new();
    };
    let shards = view.shards.as_deref().unwrap_or_default();
    let mut violations = Vec::new();
    for shard in shards.iter().filter(|shard| !shard.nodes.is_empty()) {
        let alive = || shard.nodes.iter().filter(|node| !node.health.starts_with("fail"));
        let primaries: Vec<String> = alive()
            .filter(|node| matches!(node.role.as_str(), "master" | "primary"))
            .map(|node| observation.node_name(&node.id))
            .collect();
        if primaries.len() != 1 {
            let members: Vec<String> = shard
                .nodes
                .iter()
                .map(|node| observation.node_name(&node.id))
                .collect();
            violations.push(
                Violation::new(
                    NAME,
                    format!("shard of slots {} with {}", shard.slots, members.join(", ")),
                    "exactly one primary",
                    format!("{} [{}]", primaries.len(), primaries.join(", ")),
                )
                .from_pod(pod),
            );
        }
    }
    violations
}

/// Checks that every view agrees with the majority on each node's role and primary.
fn roles_agree(observation: &ClusterObservation) -> Vec<Violation> {
    let role_of = |node: &ClusterNode| match &node.primary {
        Some(primary) => format!("replica of {}", observation.node_name(primary)),
        None => "primary".to_owned(),
    };
    let claims = observation.node_tables().flat_map(|(pod, nodes)| {
        settled(nodes)
            .map(move |node| (node.id.clone(), pod, role_of(node)))
            .collect::<Vec<_>>()
    });
    disagreements(observation, "role", claims)
}

/// Checks that a node's shard ID is equal in every view, and equal to its primary's.
fn shard_ids_agree(observation: &ClusterObservation) -> Vec<Violation> {
    let mut claims = Vec::new();
    for (pod, view) in observation.answered() {
        for shard in view.shards.iter().flatten() {
            let Some(id) = &shard.id else { continue };
            claims.extend(shard.nodes.iter().map(|node| (node.id.clone(), pod, id.clone())));
        }
    }
    let mut violations = disagreements(observation, "shard id", claims.iter().cloned());
    let shard_of: BTreeMap<(&str, &str), &str> = claims
        .iter()
        .map(|(node, pod, shard)| ((node.as_str(), *pod), shard.as_str()))
        .collect();
    for (pod, nodes) in observation.node_tables() {
        for node in settled(nodes) {
            let Some(primary) = &node.primary else { continue };
            let (own, its) = (
                shard_of.get(&(&*node.id, pod)),
                shard_of.get(&(primary.as_str(), pod)),
            );
            if let (Some(own), Some(its)) = (own, its)
                && own != its
            {
                let subject = format!("shard id of {}", observation.node_name(&node.id));
                let expected = format!("{its}, as its primary {}", observation.node_name(primary));
                violations.push(Violation::new(NAME, subject, expected, *own).from_pod(pod));
            }
        }
    }
    violations
}

/// Finds claims `(node, viewer, value)` that contradict the majority's claim about that node.
fn disagreements<'a>(
    observation: &ClusterObservation,
    what: &str,
    claims: impl Iterator<Item = (String, &'a str, String)>,
) -> Vec<Violation> {
    let mut by_node: BTreeMap<String, Vec<(&str, String)>> = BTreeMap::new();
    for (node, pod, value) in claims {
        by_node.entry(node).or_default().push((pod, value));
    }
    let mut violations = Vec::new();
    for (node, claims) in by_node {
        let values: BTreeSet<&String> = claims.iter().map(|(_, value)| value).collect();
        let votes = |value: &String| claims.iter().filter(|(_, claimed)| claimed == value).count();
        let Some(agreed) = values.into_iter().max_by_key(|value| votes(value)) else {
            continue;
        };
        for (pod, value) in claims.iter().filter(|(_, value)| value != agreed) {
            let expected = format!("{agreed}, as {} of {} nodes say", votes(agreed), claims.len());
            violations.push(
                Violation::new(
                    NAME,
                    format!("{what} of {}", observation.node_name(&node)),
                    expected,
                    value,
                )
                .from_pod(pod),
            );
        }
    }
    violations
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
