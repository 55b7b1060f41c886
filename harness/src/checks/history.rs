//! What only a series of observations shows: epochs that go back, and primaries that leave while their replicas are behind.

use std::collections::BTreeMap;

use super::Violation;
use super::violation::merge_views;
use crate::valkey::info::Role;
use crate::valkey::observation::ClusterObservation;
use crate::valkey::slots::{SlotRange, SlotSet};

/// The check's name.
pub const NAME: &str = "history";

/// Violations in a series of observations in order of time.
pub fn check(series: &[ClusterObservation]) -> Vec<Violation> {
    let mut violations = epochs_only_grow(series);
    for pair in series.windows(2) {
        violations.extend(no_primary_leaves_alone(&pair[0], &pair[1]));
    }
    merge_views(violations)
}

/// In each view, a slot passes to another owner only under a higher epoch: an old primary that takes its slots back
/// rolls its data back with them.
fn epochs_only_grow(series: &[ClusterObservation]) -> Vec<Violation> {
    let mut violations = Vec::new();
    // By viewer and slot: the highest epoch seen, and whose it was.
    let mut claimed: BTreeMap<&str, BTreeMap<u16, (u64, &str)>> = BTreeMap::new();
    for observation in series {
        for (viewer, nodes) in observation.node_tables() {
            let claimed = claimed.entry(viewer).or_default();
            for node in nodes.primaries() {
                let mut taken_back: BTreeMap<(u64, &str), SlotSet> = BTreeMap::new();
                for slot in node.slots.iter() {
                    let (epoch, owner) = *claimed.get(&slot).unwrap_or(&(0, node.id.as_str()));
                    if epoch <= node.config_epoch {
                        claimed.insert(slot, (node.config_epoch, &node.id));
                    } else if owner != node.id {
                        let range = SlotRange {
                            start: slot,
                            end: slot,
                        };
                        taken_back.entry((epoch, owner)).or_default().insert(range);
                    }
                }
                for ((epoch, owner), slots) in taken_back {
                    let owner = observation.node_name(owner);
                    let expected = format!("an epoch not below {epoch}, under which {owner} had them");
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

/// A pod that starts to terminate between two observations must not have been a primary whose replicas were all down.
fn no_primary_leaves_alone(before: &ClusterObservation, after: &ClusterObservation) -> Vec<Violation> {
    let mut violations = Vec::new();
    for pod in &before.pods {
        let stays = after
            .pods
            .iter()
            .any(|later| later.uid == pod.uid && !later.terminating);
        if pod.terminating || stays {
            continue;
        }
        let Some(Ok(view)) = before.views.get(&pod.name) else {
            continue;
        };
        let Some(myself) = view.nodes.as_ref().and_then(|nodes| nodes.myself()) else {
            continue;
        };
        if view.replication.role != Role::Primary || myself.slots.is_empty() {
            continue;
        }
        let replicas: Vec<(&str, bool)> = before
            .answered()
            .filter(|(_, other)| {
                let follows = other
                    .nodes
                    .as_ref()
                    .and_then(|nodes| nodes.myself()?.primary.as_deref());
                follows == Some(myself.id.as_str())
            })
            .map(|(name, other)| (name, other.replication.link_up == Some(true)))
            .collect();
        if !replicas.iter().any(|(_, in_sync)| *in_sync) {
            let names: Vec<&str> = replicas.iter().map(|(name, _)| *name).collect();
            let seen = if names.is_empty() {
                "it had no replica".to_owned()
            } else {
                format!("the link of {} was down", names.join(", "))
            };
            let subject = format!("{}, owner of slots {}", pod.name, myself.slots);
            violations.push(Violation::new(
                NAME,
                subject,
                "a replica in sync when it was taken down",
                seen,
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, id};
    use super::*;

    #[test]
    fn a_failover_with_a_higher_epoch_is_fine_and_the_way_back_is_not() {
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

    #[test]
    fn a_primary_that_leaves_while_its_replica_is_down_is_named() {
        let mut before = Fixture::cluster(6, 1);
        let mut after = Fixture::cluster(6, 1);
        after.pods[1].terminating = true;
        assert_eq!(check(&[before.observation(), after.observation()]), []);
        before.edit_info("valkey-4", "master_link_status:up", "master_link_status:down");
        let violations = check(&[before.observation(), after.observation()]);
        assert_eq!(violations.len(), 1);
        assert_eq!(
            violations[0].to_string(),
            "history: valkey-1, owner of slots 5461-10922: expected a replica in sync when it was taken down, \
             saw the link of valkey-4 was down"
        );
    }
}
