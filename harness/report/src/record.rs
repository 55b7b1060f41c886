//! Observations during a trial, on one clock: promises, slot owners, write gaps, key fates, and all
//! events.
//!
//! The trial context fills the record while the trial runs (see `recording` in the harness).
//! Passwords are removed before the record becomes part of the report. The result of the trial is
//! its [`Outcome`](super::Outcome).

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defect::Defect;
use checks::Violation;
use timeline::Entry;
use valkey::ClusterObservation;
use valkey::ledger::Verification;
use valkey::load::LoadReport;
use valkey::slots::SlotSet;

/// Observations during one trial. Moments are milliseconds after the trial's start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TrialRecord {
    /// Start of the trial (RFC 3339). Absent for a trial that did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<jiff::Timestamp>,
    /// The seed of the trial's run, in a report merged from several runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The chart values of the trial that differ from its combination, by dotted path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, serde_json::Value>,
    /// Results of each promise, by the name of its check.
    pub promises: BTreeMap<String, Promise>,
    /// Defects, one entry for each. The first one failed the trial.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub defects: Vec<Defect>,
    /// The reason of the acceptance, where every defect is a known finding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// Every violation at the end of the trial.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
    /// Owners of slots, at each observation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slot_maps: Vec<SlotMapReport>,
    /// Results of background loads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub availability: Vec<Availability>,
    /// Fates of the keys in ledgers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ledgers: Vec<KeyFates>,
    /// The most useful facts about a failure, when no rule knows its cause.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<String>,
    /// The ends of logs and answers; the evidence of a failure has the whole texts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exhibits: Vec<Exhibit>,
    /// Every event, in order.
    pub timeline: Vec<Entry>,
}

/// Results of a promise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Promise {
    /// Number of times that the promise was checked and kept.
    pub kept: u32,
    /// Number of violations of the promise at the end of the trial.
    pub broken: u32,
}

/// Owners of slots at one moment, in the view of every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotMapReport {
    /// The preceding act, in a few words.
    pub what: String,
    /// Time of the observation.
    pub at_ms: u64,
    /// One entry for each distinct view, that of the most nodes first. Several entries mean that
    /// nodes disagree.
    pub views: Vec<SlotView>,
    /// Pods without a view, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub silent: BTreeMap<String, String>,
}

/// Owners of slots in the view of some nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotView {
    /// The pods with this view.
    pub seen_by: Vec<String>,
    /// Slots by owner (its pod, or the start of its node id), as ranges such as `0-5460,5500`.
    #[schemars(with = "BTreeMap<String, String>")]
    pub owners: BTreeMap<String, SlotSet>,
}

/// Results of a background load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Availability {
    /// The act during the load, in a few words.
    pub what: String,
    /// Start of the load.
    pub at_ms: u64,
    /// Duration of the load.
    pub duration_ms: u64,
    /// Results by the pod that owned the shard's slots at the start.
    pub shards: BTreeMap<String, ShardAvailability>,
}

/// Results of a background load in one shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShardAvailability {
    /// The shard's slots at the start.
    #[schemars(with = "String")]
    pub slots: SlotSet,
    /// Start of the longest gap without a successful write.
    pub gap_at_ms: u64,
    /// Duration of that gap.
    pub gap_ms: u64,
    /// Number of acknowledged writes.
    pub acknowledged: u64,
    /// Number of lost writes that were acknowledged but not confirmed by a replica.
    pub unconfirmed_lost: u64,
    /// Obstacles, with the number of occurrences.
    pub obstacles: BTreeMap<String, u64>,
}

/// Fates of a ledger's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyFates {
    /// The act before the keys were read, in a few words.
    pub what: String,
    /// Time of the reading.
    pub at_ms: u64,
    /// Number of keys by class: intact, lost, stale …
    pub counts: BTreeMap<String, u64>,
    /// Lost keys that a replica had confirmed.
    pub confirmed_gone: u64,
    /// Lost keys that no replica had confirmed.
    pub unconfirmed_gone: u64,
    /// Slots of the keys, for classes that must be empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub slots: BTreeMap<String, SlotSet>,
}

/// The end of a text; the evidence has the whole text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exhibit {
    /// The evidence file's name.
    pub name: String,
    /// The last lines of the file.
    pub text: String,
    /// Number of omitted lines before them.
    pub omitted_lines: usize,
}

impl TrialRecord {
    /// Records that these promises were checked and kept.
    pub fn kept<'a>(&mut self, checks: impl IntoIterator<Item = &'a str>) {
        for check in checks {
            self.promises.entry(check.to_owned()).or_default().kept += 1;
        }
    }

    /// Records the violations at the end of the trial.
    pub fn broken(&mut self, violations: &[Violation]) {
        for violation in violations {
            self.promises.entry(violation.check.clone()).or_default().broken += 1;
        }
        self.violations.extend_from_slice(violations);
    }
}

impl SlotMapReport {
    /// Returns the owners of slots in `seen`; `None` when no node has a cluster view.
    pub fn new(what: &str, at_ms: u64, seen: &ClusterObservation) -> Option<Self> {
        let mut views: Vec<SlotView> = Vec::new();
        for (pod, nodes) in seen.node_tables() {
            let owners: BTreeMap<String, SlotSet> = nodes
                .nodes
                .iter()
                .filter(|node| !node.slots.is_empty())
                .map(|node| (owner_name(seen, &node.id), node.slots.clone()))
                .collect();
            match views.iter_mut().find(|view| view.owners == owners) {
                Some(view) => view.seen_by.push(pod.to_owned()),
                None => views.push(SlotView {
                    seen_by: vec![pod.to_owned()],
                    owners,
                }),
            }
        }
        views.sort_by_key(|view| std::cmp::Reverse(view.seen_by.len()));
        let silent = seen.views.iter().filter_map(|(pod, view)| {
            let error = view.as_ref().err()?;
            Some((pod.clone(), error.message.clone()))
        });
        (!views.is_empty()).then(|| Self {
            what: what.to_owned(),
            at_ms,
            views,
            silent: silent.collect(),
        })
    }

    /// Returns the slots about which `view` and the first view disagree.
    pub fn disputed(&self, view: &SlotView) -> SlotSet {
        let Some(first) = self.views.first() else {
            return SlotSet::default();
        };
        differences(&first.owners, &view.owners)
    }
}

/// Returns the slots with different owners in `before` and `after`, or an owner in only one of
/// them.
pub fn differences(before: &BTreeMap<String, SlotSet>, after: &BTreeMap<String, SlotSet>) -> SlotSet {
    let nothing = SlotSet::default();
    let owners: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changed = SlotSet::default();
    for owner in owners {
        let then = before.get(owner).unwrap_or(&nothing);
        let now = after.get(owner).unwrap_or(&nothing);
        for range in [then.difference(now), now.difference(then)]
            .iter()
            .flat_map(SlotSet::ranges)
        {
            changed.insert(*range);
        }
    }
    changed
}

fn owner_name(seen: &ClusterObservation, id: &str) -> String {
    seen.pod_of_node(id)
        .map_or_else(|| format!("node {}", id.get(..8).unwrap_or(id)), str::to_owned)
}

impl Availability {
    /// Returns the results of `load`. `at` converts a moment to milliseconds of the trial.
    pub fn new(what: &str, load: &LoadReport, at: impl Fn(jiff::Timestamp) -> u64) -> Self {
        let shard = |shard: &valkey::load::ShardReport| ShardAvailability {
            slots: shard.slots.clone(),
            gap_at_ms: at(shard.gap_began_at),
            gap_ms: milliseconds(shard.longest_gap),
            acknowledged: shard.writers.iter().map(|writer| writer.acknowledged).sum(),
            unconfirmed_lost: shard.unconfirmed_losses(),
            obstacles: shard
                .obstacles()
                .into_iter()
                .map(|(what, count)| (what.to_owned(), count))
                .collect(),
        };
        Self {
            what: what.to_owned(),
            at_ms: at(load.started_at),
            duration_ms: milliseconds(load.duration),
            shards: load
                .shards
                .iter()
                .map(|(pod, met)| (pod.clone(), shard(met)))
                .collect(),
        }
    }
}

impl KeyFates {
    /// Returns the fates of keys in `verification`.
    pub fn new(what: &str, at_ms: u64, verification: &Verification) -> Self {
        let counts = verification.counts.iter();
        let findings = verification.findings.iter();
        Self {
            what: what.to_owned(),
            at_ms,
            counts: counts.map(|(class, count)| (class.to_string(), *count)).collect(),
            confirmed_gone: verification.confirmed_gone,
            unconfirmed_gone: verification.unconfirmed_gone,
            slots: findings
                .map(|(class, finding)| (class.to_string(), finding.slots.iter().copied().collect()))
                .collect(),
        }
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(parts: &[(&str, &str)]) -> BTreeMap<String, SlotSet> {
        let slots = |text: &str| SlotSet::try_from(text.to_owned()).expect("slots");
        parts
            .iter()
            .map(|(pod, text)| ((*pod).to_owned(), slots(text)))
            .collect()
    }

    #[test]
    fn a_slot_differs_that_moved_came_or_went() {
        let before = owners(&[("vk-0", "0-99"), ("vk-1", "100-199")]);
        let moved = owners(&[("vk-0", "0-89"), ("vk-1", "90-199")]);
        let shrunk = owners(&[("vk-0", "0-99")]);
        assert_eq!(differences(&before, &moved).to_string(), "90-99");
        assert_eq!(differences(&before, &shrunk).to_string(), "100-199");
        assert!(differences(&before, &before).is_empty());
    }

    #[test]
    fn a_promise_counts_how_often_it_was_kept_and_broken() {
        let mut record = TrialRecord::default();
        record.kept(["bus", "balance"]);
        record.kept(["bus"]);
        record.broken(&[Violation::new("bus", "vk-0", "a link", "none")]);
        assert_eq!(record.promises["bus"], Promise { kept: 2, broken: 1 });
        assert_eq!(record.promises["balance"], Promise { kept: 1, broken: 0 });
        assert_eq!(record.violations.len(), 1);
    }
}
