//! Causes that an operation leaves behind: a Job that hides its failure, nodes that were not forgotten, a password that
//! was not rotated everywhere, keys that went with their owner.

use std::collections::{BTreeMap, BTreeSet};

use super::super::evidence::Evidence;
use super::cluster::name_of;
use crate::valkey::ClusterObservation;
use crate::valkey::cluster_nodes::Flag;
use crate::valkey::ledger::Class;
use crate::valkey::slots::SlotSet;

/// With this a script of the chart begins the line that says why it cannot go on.
const FAILURE_MARK: &str = "FAILED";

/// What `valkey-server` logs when its primary refuses its password; older versions say MASTER.
const REFUSED_BY_PRIMARY: [&str; 2] = ["Unable to AUTH to PRIMARY", "Unable to AUTH to MASTER"];

/// A hook whose last word is that it has failed, and which ended with success all the same. Its pod may have been started
/// again and have succeeded then: only the last line counts.
pub(super) fn hook_hides_its_failure(evidence: &Evidence) -> Option<String> {
    evidence.hook_outputs.iter().find_map(|output| {
        let last = output.lines.iter().rev().find(|line| !line.trim().is_empty())?;
        last.trim_start().starts_with(FAILURE_MARK).then(|| {
            format!(
                "the hook {} ended with success although it could not do its work; its last words: {}",
                output.hook,
                last.trim()
            )
        })
    })
}

/// A server whose disk does not take what it writes: it refuses every write, and PING.
pub(super) fn server_cannot_write(evidence: &Evidence) -> Option<String> {
    let seen = evidence.observation.as_ref()?;
    seen.answered().find_map(|(pod, view)| {
        let what = match &view.persistence {
            state if !state.aof_last_write_ok => "its append-only file",
            state if !state.rdb_last_bgsave_ok => "a snapshot",
            _ => return None,
        };
        Some(format!(
            "the server of pod {pod} cannot write {what} (is its volume full?), and refuses writes with MISCONF"
        ))
    })
}

/// A replica whose primary refuses the password that it has for it.
pub(super) fn replica_has_a_stale_password(evidence: &Evidence) -> Option<String> {
    let seen = evidence.observation.as_ref()?;
    let mut unlinked = seen
        .answered()
        .filter(|(_, view)| view.replication.link_up == Some(false));
    unlinked.find_map(|(pod, view)| {
        let refused = |line: &&str| REFUSED_BY_PRIMARY.iter().any(|words| line.contains(words));
        let line = evidence
            .logs
            .get(&format!("{pod}/valkey"))?
            .lines()
            .rev()
            .find(refused)?;
        let primary = view.nodes.as_ref()?.myself()?.primary.as_deref();
        let primary = primary.map_or_else(|| "its primary".to_owned(), |id| seen.node_name(id));
        Some(format!(
            "replica {pod} cannot sync from {primary}, which does not accept its password: masterauth was not rotated \
             together with the password ({})",
            line.trim()
        ))
    })
}

/// Nodes that are no pod's any more and that somebody still has in the cluster. They own nothing: one that does is a shard
/// without an owner, and told before.
pub(super) fn removed_nodes_are_not_forgotten(evidence: &Evidence) -> Option<String> {
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
    let told: Vec<String> = remembered
        .iter()
        .map(|((name, id), viewers)| {
            let short = format!("node {}", id.get(..8).unwrap_or(id));
            let named = if *name == short {
                short
            } else {
                format!("{name} ({short})")
            };
            format!("{named} by {}", viewers.join(", "))
        })
        .collect();
    (!told.is_empty()).then(|| {
        format!(
            "removed nodes were not forgotten (CLUSTER FORGET): {}",
            told.join("; ")
        )
    })
}

fn is_gone(seen: &ClusterObservation, node: &crate::valkey::cluster_nodes::ClusterNode) -> bool {
    let failed = node.has(&Flag::Failed) || node.has(&Flag::NoAddress);
    failed && node.slots.is_empty() && seen.pod_of_node(&node.id).is_none()
}

/// A primary that nobody gave any slots to.
pub(super) fn primary_has_no_slots(evidence: &Evidence) -> Option<String> {
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
    let names: Vec<&str> = empty.into_iter().collect();
    (!names.is_empty()).then(|| {
        format!(
            "primary without slots: {}; it was taken into the cluster, and no slots were moved to it",
            names.join(", ")
        )
    })
}

/// Keys that were acknowledged and are gone: deleted where they were, or lost with the pod that had them.
pub(super) fn keys_are_gone(evidence: &Evidence) -> Option<String> {
    let lost = evidence.keys.as_ref()?.former_owners.get(&Class::Lost)?;
    let seen = evidence.observation.as_ref()?;
    let told = |(owner, slots): (&String, &SlotSet)| {
        let owned_now = seen.node_tables().find(|(pod, _)| pod == owner);
        let owned_now = owned_now.and_then(|(_, nodes)| Some(nodes.myself()?.slots.clone()));
        let still = owned_now
            .map(|owned| owned.intersection(slots))
            .unwrap_or_default();
        let slots = slots.summary();
        if !still.is_empty() {
            return format!(
                "the keys of slots {slots} were deleted on {owner}, which had these slots when the keys were written and \
                 has them now"
            );
        }
        let whereabouts = if seen.pods.iter().any(|pod| pod.name == *owner) {
            "does not have them any more"
        } else {
            "is gone"
        };
        format!(
            "the keys of slots {slots} were lost on the way from {owner}, which had these slots when the keys were written \
             and {whereabouts}: whoever serves them now got them without the keys"
        )
    };
    let told: Vec<String> = lost.iter().map(told).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::fixture::{Fixture, id};
    use crate::release::HookOutput;
    use crate::valkey::ledger::Verification;

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
            hook_hides_its_failure(&output(&["moving", "FAILED: the slots could not be moved", ""])).unwrap(),
            "the hook vk-cluster-drain ended with success although it could not do its work; its last words: \
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
        let said = server_cannot_write(&evidence(&fixture)).unwrap();
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
        let said = replica_has_a_stale_password(&evidence).unwrap();
        assert!(
            said.starts_with("replica valkey-4 cannot sync from valkey-1 (11111111), which does not accept its password: masterauth was not rotated"),
            "{said}"
        );
        assert!(said.contains("WRONGPASS"), "{said}");
    }

    #[test]
    fn a_node_without_a_pod_that_somebody_remembers_is_named() {
        let mut fixture = Fixture::cluster(6, 1);
        assert_eq!(removed_nodes_are_not_forgotten(&evidence(&fixture)), None);
        let removed = "f".repeat(40);
        let line = format!("{removed} 10.244.0.30:6379@16379 master,fail - 0 0 7 connected");
        fixture.append("valkey-4", &line);
        assert_eq!(
            removed_nodes_are_not_forgotten(&evidence(&fixture)).unwrap(),
            "removed nodes were not forgotten (CLUSTER FORGET): node ffffffff by valkey-4"
        );
        let mut evidence = evidence(&fixture);
        evidence.removed_pods.insert(removed, "valkey-6".to_owned());
        assert!(
            removed_nodes_are_not_forgotten(&evidence)
                .unwrap()
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
        let said = primary_has_no_slots(&evidence(&fixture)).unwrap();
        assert!(said.starts_with("primary without slots: valkey-3;"), "{said}");
        assert_eq!(primary_has_no_slots(&evidence(&Fixture::unformed(6))), None);
    }

    fn lost(owner: &str, slots: &str) -> Verification {
        let slots = SlotSet::try_from(slots.to_owned()).expect("slots");
        let owners = BTreeMap::from([(owner.to_owned(), slots)]);
        let mut found = Verification::default();
        found.former_owners.insert(Class::Lost, owners);
        found
    }

    #[test]
    fn keys_that_were_deleted_are_told_from_keys_that_went_with_their_pod() {
        let mut evidence = evidence(&Fixture::cluster(6, 1));
        assert_eq!(keys_are_gone(&evidence), None);
        evidence.keys = Some(lost("valkey-0", "5"));
        assert_eq!(
            keys_are_gone(&evidence).unwrap(),
            "the keys of slots 5 were deleted on valkey-0, which had these slots when the keys were written and has them now"
        );
        evidence.keys = Some(lost("valkey-6", "5-99"));
        let said = keys_are_gone(&evidence).unwrap();
        assert!(
            said.starts_with("the keys of slots 5-99 were lost on the way from valkey-6")
                && said.contains("is gone"),
            "{said}"
        );
    }
}
