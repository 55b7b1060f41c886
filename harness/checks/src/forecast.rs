//! The cost of a scale-down that does not move slots away first. A departing primary costs nothing
//! if one of its synchronised replicas stays. Otherwise all its slots are lost with their data.

use std::collections::BTreeMap;

use valkey::observation::ClusterObservation;
use valkey::slots::SlotSet;

/// Returns the slots that will be lost with the pods `departing`, by owning pod.
pub fn losses(now: &ClusterObservation, departing: &[String]) -> BTreeMap<String, SlotSet> {
    let leaves = |pod: &str| departing.iter().any(|name| name == pod);
    let mut lost = BTreeMap::new();
    for (pod, nodes) in now.node_tables().filter(|(pod, _)| leaves(pod)) {
        let Some(myself) = nodes.myself().filter(|myself| !myself.slots.is_empty()) else {
            continue;
        };
        let successor = now.answered().any(|(other, view)| {
            let table = view.nodes.as_ref().and_then(|nodes| nodes.myself());
            let follows = table.and_then(|node| node.primary.as_deref()) == Some(myself.id.as_str());
            follows && !leaves(other) && view.replication.link_up == Some(true)
        });
        if !successor {
            lost.insert(pod.to_owned(), myself.slots.clone());
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    fn losses_of(departing: &[&str], edit: impl FnOnce(&mut Fixture)) -> Vec<String> {
        let mut fixture = Fixture::cluster(6, 1);
        edit(&mut fixture);
        let departing: Vec<String> = departing.iter().map(|&name| name.to_owned()).collect();
        let lost = losses(&fixture.observation(), &departing);
        lost.iter().map(|(pod, slots)| format!("{pod} {slots}")).collect()
    }

    #[test]
    fn a_shard_is_lost_with_its_primary_and_all_its_replicas() {
        assert_eq!(losses_of(&["valkey-4", "valkey-5"], |_| {}), [""; 0]);
        assert_eq!(losses_of(&["valkey-1", "valkey-5"], |_| {}), [""; 0]);
        assert_eq!(
            losses_of(&["valkey-1", "valkey-4"], |_| {}),
            ["valkey-1 5461-10922"]
        );
    }

    #[test]
    fn a_replica_that_is_not_in_sync_saves_nothing() {
        let unsynced = |fixture: &mut Fixture| {
            fixture.edit_info("valkey-4", "master_link_status:up", "master_link_status:down");
        };
        assert_eq!(losses_of(&["valkey-1"], unsynced), ["valkey-1 5461-10922"]);
    }
}
