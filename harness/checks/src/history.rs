//! Promises that need a series of observations: epochs do not go back, and no failover lacks a
//! cause.

use std::collections::BTreeMap;

use super::Violation;
use findings::merge_views;
use valkey::info::Role;
use valkey::observation::ClusterObservation;
use valkey::slots::{self, SlotSet};

/// The check's name.
pub const NAME: &str = "history";

/// Finds violations in a series of observations in chronological order.
pub fn check(series: &[ClusterObservation]) -> Vec<Violation> {
    merge_views(epochs_only_grow(series))
}

/// Checks in each view that a slot changes its owner only under a higher epoch. An old primary that
/// takes its slots back also rolls their data back.
fn epochs_only_grow(series: &[ClusterObservation]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let tables = series.iter().flat_map(ClusterObservation::node_tables);
    let pieces = slots::pieces(tables.flat_map(|(_, nodes)| &nodes.nodes).map(|node| &node.slots));
    // By viewer and first slot of a piece: the highest epoch seen, and its owner.
    let mut claimed: BTreeMap<&str, BTreeMap<u16, (u64, &str)>> = BTreeMap::new();
    for observation in series {
        for (viewer, nodes) in observation.node_tables() {
            let claimed = claimed.entry(viewer).or_default();
            for node in nodes.primaries() {
                let mut taken_back: BTreeMap<(u64, &str), SlotSet> = BTreeMap::new();
                for piece in pieces.iter().filter(|piece| node.slots.contains(piece.start)) {
                    let (epoch, owner) = *claimed.get(&piece.start).unwrap_or(&(0, node.id.as_str()));
                    if epoch <= node.config_epoch {
                        claimed.insert(piece.start, (node.config_epoch, &node.id));
                    } else if owner != node.id {
                        taken_back.entry((epoch, owner)).or_default().insert(*piece);
                    }
                }
                for ((epoch, owner), slots) in taken_back {
                    let owner = observation.node_name(owner);
                    let expected = format!("an epoch of at least {epoch}, at which {owner} owned them");
                    let seen = format!(
                        "{} with epoch {}",
                        observation.node_name(&node.id),
                        node.config_epoch
                    );
                    violations.push(
                        Violation::new(NAME, format!("owner of slots {slots}"), expected, seen)
                            .from_pod(viewer),
                    );
                }
            }
        }
    }
    violations
}

/// Finds pods that became primaries between two observations although nobody did anything.
pub fn failovers(before: &ClusterObservation, after: &ClusterObservation) -> Vec<Violation> {
    let role = |seen: &ClusterObservation, pod: &str| {
        let view = seen.views.get(pod).and_then(|view| view.as_ref().ok());
        view.map(|view| view.replication.role)
    };
    let promoted = after.pods.iter().filter(|pod| {
        role(before, &pod.name) == Some(Role::Replica) && role(after, &pod.name) == Some(Role::Primary)
    });
    promoted
        .map(|pod| {
            Violation::new(
                NAME,
                &pod.name,
                "to stay a replica while no operation runs",
                "it is a primary now",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, id};
    use super::*;

    #[test]
    fn a_failover_that_nobody_caused_is_named() {
        let before = Fixture::cluster(6, 1);
        let mut after = Fixture::cluster(6, 1);
        assert_eq!(failovers(&before.observation(), &after.observation()), []);
        after.swap_roles("valkey-0", "valkey-3");
        let found = failovers(&before.observation(), &after.observation());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].subject, "valkey-3");
    }

    #[test]
    fn a_slot_owners_epoch_may_grow_and_never_fall() {
        let start = Fixture::cluster(6, 1).observation();
        let mut failed_over = Fixture::cluster(6, 1);
        failed_over.edit_all("0 1000 1 connected 0-5460", "0 1000 1 connected");
        failed_over.edit_all(
            &format!("slave {} 0 1000 1 connected", id(0)),
            "master - 0 1000 9 connected 0-5460",
        );
        let failed_over = failed_over.observation();
        assert_eq!(epochs_only_grow(&[start.clone(), failed_over.clone()]), []);
        let violations = merge_views(epochs_only_grow(&[failed_over, start]));
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].seen, "valkey-0 (00000000) with epoch 1");
        assert_eq!(violations[0].subject, "owner of slots 0-5460");
        assert_eq!(violations[0].viewed_from.len(), 6);
    }
}
