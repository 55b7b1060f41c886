//! Causes that an operation leaves behind:
//! - a Job that hides its failure;
//! - nodes that were not forgotten;
//! - a password that was not rotated everywhere.

use std::collections::{BTreeMap, BTreeSet};

use super::super::cause::{Cause, Remembered};
use super::super::evidence::Evidence;
use super::cluster::name_of;
use crate::valkey::ClusterObservation;
use crate::valkey::cluster_nodes::Flag;

/// The beginning of the line in which a script of the chart says why it cannot go on.
const FAILURE_MARK: &str = "FAILED";

/// Log lines of a `valkey-server` that its primary refuses; older versions say MASTER.
const REFUSED_BY_PRIMARY: [&str; 2] = ["Unable to AUTH to PRIMARY", "Unable to AUTH to MASTER"];

/// Recognises a hook that reports a failure in its last line but exits with success. The pod may
/// have restarted and then succeeded, so only the last line counts.
pub(super) fn hook_hides_its_failure(evidence: &Evidence) -> Option<Cause> {
    evidence.hook_outputs.iter().find_map(|output| {
        let last = output.lines.iter().rev().find(|line| !line.trim().is_empty())?;
        last.trim_start()
            .starts_with(FAILURE_MARK)
            .then(|| Cause::HookHidesItsFailure {
                hook: output.hook.clone(),
                said: last.trim().to_owned(),
            })
    })
}

/// Recognises a server that cannot write to its disk: it then refuses every write, and PING.
pub(super) fn server_cannot_write(evidence: &Evidence) -> Option<Cause> {
    let seen = evidence.observation.as_ref()?;
    seen.answered().find_map(|(pod, view)| {
        let file = match &view.persistence {
            state if !state.aof_last_write_ok => "its append-only file",
            state if !state.rdb_last_bgsave_ok => "a snapshot",
            _ => return None,
        };
        Some(Cause::ServerCannotWrite {
            pod: pod.to_owned(),
            file: file.to_owned(),
        })
    })
}

/// Recognises a replica with a password that its primary refuses. The replica's log shows it, or
/// else its configuration.
pub(super) fn replica_has_a_stale_password(evidence: &Evidence) -> Option<Cause> {
    let seen = evidence.observation.as_ref()?;
    // A replica without any password is another cause, which an earlier rule recognises.
    let mut unlinked = seen
        .answered()
        .filter(|(_, view)| view.replication.link_up == Some(false) && view.primary_auth_set != Some(false));
    unlinked.find_map(|(pod, view)| {
        let refused = |line: &&str| REFUSED_BY_PRIMARY.iter().any(|words| line.contains(words));
        let log = evidence.logs.get(&format!("{pod}/valkey"));
        let line = log.and_then(|log| log.lines().rev().find(refused));
        if line.is_none() && view.primary_auth_matches != Some(false) {
            return None;
        }
        let primary = view
            .nodes
            .as_ref()
            .and_then(|nodes| nodes.myself()?.primary.as_deref());
        Some(Cause::ReplicaHasAStalePassword {
            replica: pod.to_owned(),
            primary: primary.map_or_else(|| "its primary".to_owned(), |id| seen.node_name(id)),
            said: line.map(|line| line.trim().to_owned()),
        })
    })
}

/// Recognises removed nodes that other nodes still remember. Such nodes own no slots; one with
/// slots is a shard without an owner, reported by an earlier rule.
pub(super) fn removed_nodes_are_not_forgotten(evidence: &Evidence) -> Option<Cause> {
    let seen = evidence.observation.as_ref()?;
    let mut remembered: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for (viewer, nodes) in seen.node_tables() {
        for node in nodes.nodes.iter().filter(|node| is_gone(seen, node)) {
            let name = evidence.removed_pods.get(&node.id).cloned();
            let name = name.unwrap_or_else(|| name_of(evidence, node));
            remembered
                .entry((name, node.id.clone()))
                .or_default()
                .push(viewer);
        }
    }
    let nodes: Vec<Remembered> = remembered
        .into_iter()
        .map(|((name, id), viewers)| Remembered {
            pod: Some(name).filter(|name| !name.starts_with("node ")),
            id,
            by: viewers.into_iter().map(str::to_owned).collect(),
        })
        .collect();
    (!nodes.is_empty()).then_some(Cause::RemovedNodesAreNotForgotten { nodes })
}

fn is_gone(seen: &ClusterObservation, node: &crate::valkey::cluster_nodes::ClusterNode) -> bool {
    let failed = node.has(&Flag::Failed) || node.has(&Flag::NoAddress);
    failed && node.slots.is_empty() && seen.pod_of_node(&node.id).is_none()
}

/// Recognises a primary that was assigned no slots.
pub(super) fn primary_has_no_slots(evidence: &Evidence) -> Option<Cause> {
    let seen = evidence.observation.as_ref()?;
    if seen.is_unformed() {
        return None;
    }
    let empty: BTreeSet<&str> = seen
        .node_tables()
        .filter(|(_, nodes)| {
            let myself = nodes.myself();
            myself.is_some_and(|node| node.is_primary() && node.slots.is_empty() && node.migrating.is_empty())
        })
        .map(|(pod, _)| pod)
        .collect();
    let pods: Vec<String> = empty.into_iter().map(str::to_owned).collect();
    (!pods.is_empty()).then_some(Cause::PrimaryHasNoSlots { pods })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::fixture::{Fixture, id};
    use crate::release::HookOutput;

    fn evidence(fixture: &Fixture) -> Evidence {
        Evidence {
            observation: Some(fixture.observation()),
            ..Evidence::default()
        }
    }

    #[test]
    fn a_hook_that_failed_and_was_started_again_hides_nothing() {
        let output = |lines: &[&str]| Evidence {
            hook_outputs: vec![HookOutput {
                hook: "vk-cluster-drain".to_owned(),
                lines: lines.iter().map(|&line| line.to_owned()).collect(),
            }],
            ..Evidence::default()
        };
        let again = output(&[
            "FAILED: gave up after 9 s: pod vk-0 to answer",
            "the others may go",
        ]);
        assert_eq!(hook_hides_its_failure(&again), None);
        assert_eq!(
            hook_hides_its_failure(&output(&["moving", "FAILED: the slots could not be moved", ""]))
                .unwrap()
                .to_string(),
            "the hook vk-cluster-drain reported success although its work failed; its last output: \
             FAILED: the slots could not be moved"
        );
    }

    #[test]
    fn a_disk_that_takes_nothing_is_named_with_its_pod() {
        let mut fixture = Fixture::cluster(6, 1);
        assert_eq!(server_cannot_write(&evidence(&fixture)), None);
        fixture.edit_info(
            "valkey-2",
            "aof_last_write_status:ok",
            "aof_last_write_status:err",
        );
        let said = server_cannot_write(&evidence(&fixture)).unwrap().to_string();
        assert!(
            said.starts_with("the server of pod valkey-2 cannot write its append-only file"),
            "{said}"
        );
    }

    #[test]
    fn a_password_that_was_not_rotated_is_told_by_the_replicas_log() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_info("valkey-4", "master_link_status:up", "master_link_status:down");
        let mut evidence = evidence(&fixture);
        assert_eq!(
            replica_has_a_stale_password(&evidence),
            None,
            "down for another reason"
        );
        let log =
            "started\n1:S * Unable to AUTH to PRIMARY: -WRONGPASS invalid username-password pair\nretrying\n";
        evidence.logs.insert("valkey-4/valkey".to_owned(), log.to_owned());
        let said = replica_has_a_stale_password(&evidence).unwrap().to_string();
        assert!(
            said.starts_with("replica valkey-4 cannot sync from valkey-1 (11111111), which does not accept its password: masterauth was not rotated"),
            "{said}"
        );
        assert!(said.contains("WRONGPASS"), "{said}");
        let seen = evidence.observation.as_mut().unwrap();
        let replica = seen.views.get_mut("valkey-4").unwrap().as_mut().unwrap();
        replica.primary_auth_set = Some(false);
        assert_eq!(replica_has_a_stale_password(&evidence), None, "it has none");
    }

    #[test]
    fn a_node_without_a_pod_that_somebody_remembers_is_named() {
        let mut fixture = Fixture::cluster(6, 1);
        assert_eq!(removed_nodes_are_not_forgotten(&evidence(&fixture)), None);
        let removed = "f".repeat(40);
        let line = format!("{removed} 10.244.0.30:6379@16379 master,fail - 0 0 7 connected");
        fixture.append("valkey-4", &line);
        assert_eq!(
            removed_nodes_are_not_forgotten(&evidence(&fixture))
                .unwrap()
                .to_string(),
            "removed nodes were not forgotten (CLUSTER FORGET): node ffffffff by valkey-4"
        );
        let mut evidence = evidence(&fixture);
        evidence.removed_pods.insert(removed, "valkey-6".to_owned());
        assert!(
            removed_nodes_are_not_forgotten(&evidence)
                .unwrap()
                .to_string()
                .ends_with(": valkey-6 (node ffffffff) by valkey-4")
        );
    }

    #[test]
    fn a_primary_that_got_no_slots_is_named() {
        let mut fixture = Fixture::cluster(6, 1);
        assert_eq!(primary_has_no_slots(&evidence(&fixture)), None);
        fixture.edit_all(
            &format!("slave {} 0 1000 1 connected", id(0)),
            "master - 0 1000 1 connected",
        );
        let said = primary_has_no_slots(&evidence(&fixture)).unwrap().to_string();
        assert!(said.starts_with("primary without slots: valkey-3;"), "{said}");
        assert_eq!(primary_has_no_slots(&evidence(&Fixture::unformed(6))), None);
    }
}
