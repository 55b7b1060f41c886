//! What was seen so far, and what must never be seen again.

use std::collections::BTreeMap;

use crate::checks::{Violation, forgotten, history};
use crate::valkey::ClusterObservation;

/// What the trial has seen of its release while it was healthy.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// In order of time.
    series: Vec<ClusterObservation>,
    /// The pods that were taken out of the cluster, by the IDs of the nodes that they were.
    removed: BTreeMap<String, String>,
}

impl Past {
    /// What `now` breaks of the past.
    pub(super) fn violations(&self, now: &ClusterObservation) -> Vec<Violation> {
        // The volume of a removed pod remembers the node's ID: a pod that comes back is a member again.
        let returned = |id: &str| now.pod_of_node(id).is_some();
        let gone = self.removed.iter().filter(|(id, _)| !returned(id));
        let removed = gone.map(|(id, pod)| (id.clone(), pod.clone())).collect();
        let mut violations = forgotten::check(now, &removed);
        if let Some(before) = self.series.last() {
            violations.extend(history::check(&[before.clone(), now.clone()]));
        }
        violations
    }

    /// A healthy moment.
    pub(super) fn remember(&mut self, now: ClusterObservation) {
        self.series.push(now);
    }

    /// Nodes that nobody may know any more.
    pub(super) fn removed(&mut self, pods: impl IntoIterator<Item = (String, String)>) {
        self.removed.extend(pods);
    }

    /// The pods that were taken out of the cluster, by the IDs of the nodes that they were.
    pub(super) fn removed_pods(&self) -> &BTreeMap<String, String> {
        &self.removed
    }

    /// After a loss that was predicted, slots have owners that they were given anew: nothing follows from before.
    pub(super) fn start_anew(&mut self) {
        self.series.clear();
    }

    /// The last healthy moment.
    pub(super) fn last(&self) -> Option<&ClusterObservation> {
        self.series.last()
    }
}
