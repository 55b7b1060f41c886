//! The pod that serves each slot, derived from all nodes' views. Pure code;
//! [`cluster_client`](super::cluster_client) refreshes the map.
//!
//! Nodes announce addresses that only pods can reach. Therefore the map leads from slots and
//! announced addresses to pod names.

use std::collections::BTreeMap;

use super::cluster_nodes::ClusterNodes;
use super::slots::{self, SLOT_COUNT};

/// Slots and announced addresses, each with the pod that serves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotMap {
    pods: Vec<String>,
    /// By slot, an index into `pods`.
    owners: Vec<Option<usize>>,
    /// By `ip:port`, an index into `pods`.
    addresses: BTreeMap<String, usize>,
}

impl SlotMap {
    /// Creates the map of a server without cluster support, which serves every slot.
    pub fn standalone(pod: &str) -> Self {
        Self {
            pods: vec![pod.to_owned()],
            owners: vec![Some(0); usize::from(SLOT_COUNT)],
            addresses: BTreeMap::new(),
        }
    }

    /// Joins the views of several nodes. Each node states its own ID. As among the nodes, the claim
    /// with the highest config epoch decides about a slot.
    pub fn from_tables<'a>(tables: impl IntoIterator<Item = (&'a str, &'a ClusterNodes)>) -> Self {
        let tables: Vec<(&str, &ClusterNodes)> = tables.into_iter().collect();
        let pods: Vec<String> = tables.iter().map(|(pod, _)| (*pod).to_owned()).collect();
        let mut by_id = BTreeMap::new();
        for (index, (_, table)) in tables.iter().enumerate() {
            if let Some(myself) = table.myself() {
                by_id.insert(myself.id.as_str(), index);
            }
        }
        let mut addresses = BTreeMap::new();
        let mut claims: Vec<Option<(u64, usize)>> = vec![None; usize::from(SLOT_COUNT)];
        let mut counted = vec![None; pods.len()];
        for node in tables.iter().flat_map(|(_, table)| &table.nodes) {
            let Some(&index) = by_id.get(node.id.as_str()) else {
                continue;
            };
            addresses.insert(node.address(), index);
            // Nearly always all tables agree.
            if counted[index].replace((node.config_epoch, &node.slots))
                == Some((node.config_epoch, &node.slots))
            {
                continue;
            }
            for slot in node.slots.iter() {
                let claim = &mut claims[usize::from(slot)];
                if claim.is_none_or(|(epoch, _)| epoch < node.config_epoch) {
                    *claim = Some((node.config_epoch, index));
                }
            }
        }
        Self {
            pods,
            owners: claims
                .into_iter()
                .map(|claim| claim.map(|(_, index)| index))
                .collect(),
            addresses,
        }
    }

    /// Returns the pod that serves `slot`.
    pub fn owner(&self, slot: u16) -> Option<&str> {
        let index = (*self.owners.get(usize::from(slot))?)?;
        Some(&self.pods[index])
    }

    /// Returns the pod that announces `address` (`ip:port`, as in MOVED and ASK).
    pub fn pod_at(&self, address: &str) -> Option<&str> {
        self.addresses
            .get(address)
            .map(|&index| self.pods[index].as_str())
    }

    /// Applies a MOVED; `false` if the address is unknown.
    pub fn learn(&mut self, slot: u16, address: &str) -> bool {
        let Some(&index) = self.addresses.get(address) else {
            return false;
        };
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = Some(index);
        }
        true
    }

    /// Returns true if every slot has an owner.
    pub fn is_complete(&self) -> bool {
        !self.owners.is_empty() && self.owners.iter().all(Option::is_some)
    }

    /// Returns the pods that own slots, each with its slots.
    pub fn owners(&self) -> BTreeMap<&str, slots::SlotSet> {
        let mut owners: BTreeMap<&str, slots::SlotSet> = BTreeMap::new();
        for slot in slots::all() {
            if let Some(pod) = self.owner(slot) {
                owners.entry(pod).or_default().insert(slots::SlotRange {
                    start: slot,
                    end: slot,
                });
            }
        }
        owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> ClusterNodes {
        ClusterNodes::parse(text).expect("parses")
    }

    #[test]
    fn the_claim_with_the_highest_epoch_decides() {
        let old = table(
            "aa 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-16383\nbb 10.0.0.2:6379@16379 slave aa 0 0 1 connected\n",
        );
        let new = table(
            "aa 10.0.0.1:6379@16379 slave bb 0 0 2 connected\nbb 10.0.0.2:6379@16379 myself,master - 0 0 2 connected 0-16383\n",
        );
        let map = SlotMap::from_tables([("pod-0", &old), ("pod-1", &new)]);
        assert_eq!(map.owner(5), Some("pod-1"));
        assert!(map.is_complete());
        assert_eq!(map.owners()["pod-1"].len(), 16384);
    }

    #[test]
    fn a_redirect_is_learnt_when_its_address_is_known() {
        let one = table("aa 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-9\n");
        let two = table("bb 10.0.0.2:6379@16379 myself,master - 0 0 2 connected\n");
        let mut map = SlotMap::from_tables([("pod-0", &one), ("pod-1", &two)]);
        assert!(!map.is_complete());
        assert!(map.learn(7, "10.0.0.2:6379"));
        assert_eq!((map.owner(7), map.owner(8)), (Some("pod-1"), Some("pod-0")));
        assert!(!map.learn(7, "10.9.9.9:6379"));
        assert_eq!(map.pod_at("10.0.0.1:6379"), Some("pod-0"));
        assert_eq!(SlotMap::default().owner(3), None);
    }
}
