//! Results of a Job's pods, recorded from the watch. A pod counts once, even if it was deleted
//! before the Job was reconciled. kube-controller-manager keeps a finalizer on each pod for this
//! purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::plan::ended_at;
use crate::controllers::pods::{is_terminating, phase};

/// The record of one Job, by the UIDs of its pods.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// End time of each pod that succeeded.
    succeeded: BTreeMap<String, Timestamp>,
    /// End time of each pod that failed. A pod that is deleted before its end has failed.
    failed: BTreeMap<String, Timestamp>,
    /// Pods that were created and are not yet known to be gone.
    made: BTreeSet<String>,
    /// Pods deleted by the controller itself, which does not count as a failure.
    given_up: BTreeSet<String>,
    gone: BTreeSet<String>,
    /// Created pods that are missing in the list and were not reported by the watch, with the time
    /// since then.
    missing: BTreeMap<String, Timestamp>,
}

/// The time within which the watch reports the end of a pod. It usually takes milliseconds, unless
/// its reader fell so far behind that changes were dropped.
pub(super) const REPORTED_WITHIN: Duration = Duration::from_secs(5);

impl Ledger {
    /// Records the current state of a pod.
    pub(crate) fn observe(&mut self, pod: &Pod, deleted: bool, now: Timestamp) {
        let uid = pod.uid().unwrap_or_default();
        let ends_early = (deleted || is_terminating(pod)) && !self.given_up.contains(&uid);
        let counted = self.succeeded.contains_key(&uid) || self.failed.contains_key(&uid);
        if !counted && phase(pod) == "Succeeded" {
            self.succeeded.insert(uid.clone(), ended_at(pod).unwrap_or(now));
        } else if !counted && phase(pod) == "Failed" {
            self.failed.insert(uid.clone(), ended_at(pod).unwrap_or(now));
        } else if !counted && ends_early {
            self.failed.insert(uid.clone(), now);
        }
        if deleted {
            self.made.remove(&uid);
            self.gone.insert(uid);
        }
    }

    /// Records that the controller has created this pod.
    pub(crate) fn made(&mut self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        if !self.gone.contains(&uid) {
            self.made.insert(uid);
        }
    }

    /// Records that the controller is about to delete this pod.
    pub(crate) fn give_up(&mut self, pod: &Pod) {
        self.given_up.insert(pod.uid().unwrap_or_default());
    }

    /// Returns the number of pods that have succeeded.
    pub(crate) fn succeeded(&self) -> usize {
        self.succeeded.len()
    }

    /// Returns the number of pods that have failed.
    pub(crate) fn failed(&self) -> usize {
        self.failed.len()
    }

    /// Returns the number of pods that have failed since the last success, and the time of the last
    /// failure.
    pub(crate) fn recent_failures(&self) -> Option<(usize, Timestamp)> {
        let success = self.succeeded.values().max();
        let recent = self
            .failed
            .values()
            .filter(|failed| success.is_none_or(|success| failed > &success));
        Some((recent.clone().count(), *recent.max()?))
    }

    /// Stops waiting for overdue reports of the watch: such a pod was deleted before its end.
    pub(crate) fn settle(&mut self, listed: &[Pod], now: Timestamp) {
        let missing = self.missing_from(listed);
        self.missing.retain(|uid, _| missing.contains(uid));
        for uid in missing {
            let since = *self.missing.entry(uid.clone()).or_insert(now);
            if Duration::try_from(now.duration_since(since)).unwrap_or_default() >= REPORTED_WITHIN {
                self.made.remove(&uid);
                self.failed.insert(uid, now);
            }
        }
    }

    /// Returns the number of created pods that are neither in the list nor known to be gone. The
    /// watch will report their end.
    pub(crate) fn unaccounted(&self, listed: &[Pod]) -> usize {
        self.missing_from(listed).len()
    }

    fn missing_from(&self, listed: &[Pod]) -> BTreeSet<String> {
        let listed: BTreeSet<String> = listed.iter().filter_map(ResourceExt::uid).collect();
        let ended = |uid: &String| self.succeeded.contains_key(uid) || self.failed.contains_key(uid);
        let missing = self
            .made
            .iter()
            .filter(|uid| !listed.contains(*uid) && !ended(uid));
        missing.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, phase: &str, more: &str) -> Pod {
        let text = format!("{{metadata: {{name: {uid}, uid: {uid}{more}}}, status: {{phase: {phase}}}}}");
        serde_yaml::from_str(&text).expect("a Pod")
    }

    const TERMINATING: &str = ", deletionTimestamp: '2026-01-01T00:00:00Z'";

    #[test]
    fn every_pod_counts_once() {
        let (mut ledger, now) = (Ledger::default(), Timestamp::now());
        for uid in ["a", "b", "c"] {
            ledger.made(&pod(uid, "Pending", ""));
        }
        ledger.give_up(&pod("c", "Running", ""));
        for _ in 0..2 {
            ledger.observe(&pod("a", "Succeeded", ""), true, now);
            ledger.observe(&pod("b", "Running", TERMINATING), false, now);
            ledger.observe(&pod("b", "Failed", TERMINATING), true, now);
            ledger.observe(&pod("c", "Running", TERMINATING), true, now);
        }
        assert_eq!((ledger.succeeded(), ledger.failed()), (1, 1));
        assert_eq!(ledger.unaccounted(&[]), 0);
    }

    #[test]
    fn a_pod_that_the_watch_has_not_told_of_is_waited_for() {
        let (mut ledger, now) = (Ledger::default(), Timestamp::now());
        let made = pod("a", "Pending", "");
        ledger.made(&made);
        assert_eq!(ledger.unaccounted(std::slice::from_ref(&made)), 0);
        assert_eq!(ledger.unaccounted(&[]), 1);
        ledger.observe(&pod("a", "Succeeded", ""), true, now);
        // The response to the pod's creation may come after its end.
        ledger.made(&made);
        assert_eq!((ledger.unaccounted(&[]), ledger.succeeded()), (0, 1));
    }

    #[test]
    fn a_pod_that_the_watch_never_tells_of_has_failed() {
        let (mut ledger, now) = (Ledger::default(), Timestamp::now());
        ledger.made(&pod("a", "Pending", ""));
        ledger.settle(&[], now);
        assert_eq!((ledger.unaccounted(&[]), ledger.failed()), (1, 0));
        ledger.settle(&[], now.checked_add(REPORTED_WITHIN).expect("in range"));
        assert_eq!((ledger.unaccounted(&[]), ledger.failed()), (0, 1));
    }
}
