//! Past observations of a trial, and states that must not return.

use std::collections::BTreeMap;

use crate::checks::{Violation, forgotten, history};
use crate::valkey::ClusterObservation;

/// Observations of the trial's release while it was healthy.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Observations in order of time.
    series: Vec<ClusterObservation>,
    /// The pods removed from the cluster, by node ID.
    removed: BTreeMap<String, String>,
}

impl Past {
    /// Returns the violations of `now` against earlier observations.
    pub(super) fn violations(&self, now: &ClusterObservation) -> Vec<Violation> {
        // A removed pod's volume stores the node ID, so a returning pod is a member again.
        let returned = |id: &str| now.pod_of_node(id).is_some();
        let gone = self.removed.iter().filter(|(id, _)| !returned(id));
        let removed = gone.map(|(id, pod)| (id.clone(), pod.clone())).collect();
        let mut violations = forgotten::check(now, &removed);
        if let Some(before) = self.series.last() {
            violations.extend(history::check(&[before.clone(), now.clone()]));
        }
        violations
    }

    /// Records an observation of the healthy release.
    pub(super) fn remember(&mut self, now: ClusterObservation) {
        self.series.push(now);
    }

    /// Records nodes that every other node must have forgotten.
    pub(super) fn removed(&mut self, pods: impl IntoIterator<Item = (String, String)>) {
        self.removed.extend(pods);
    }

    /// Returns the pods removed from the cluster, by node ID.
    pub(super) fn removed_pods(&self) -> &BTreeMap<String, String> {
        &self.removed
    }

    /// Discards earlier observations. After a predicted loss, slots are reassigned, so earlier
    /// observations prove nothing.
    pub(super) fn forget_observations(&mut self) {
        self.series.clear();
    }

    /// Returns the last observation of the healthy release.
    pub(super) fn last(&self) -> Option<&ClusterObservation> {
        self.series.last()
    }
}
