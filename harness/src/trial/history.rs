//! What was seen so far, and what must never be seen again.

use crate::checks::{Violation, forgotten, history};
use crate::valkey::ClusterObservation;

/// What the trial has seen of its release while it was healthy.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// In order of time.
    series: Vec<ClusterObservation>,
    /// The IDs of nodes that were taken out of the cluster.
    removed: Vec<String>,
}

impl Past {
    /// What `now` breaks of the past.
    pub(super) fn violations(&self, now: &ClusterObservation) -> Vec<Violation> {
        // The volume of a removed pod remembers the node's ID: a pod that comes back is a member again.
        let returned = |id: &&String| now.pod_of_node(id).is_some();
        let removed: Vec<String> = self.removed.iter().filter(|id| !returned(id)).cloned().collect();
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
    pub(super) fn removed(&mut self, ids: impl IntoIterator<Item = String>) {
        self.removed.extend(ids);
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
