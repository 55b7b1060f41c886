//! What was seen during a trial: the promises that were asserted, who owned which slots, for how long nobody could write,
//! what became of the keys, and everything that happened, on one clock.
//!
//! The [`Context`](crate::trial::Context) fills it while the trial runs (see [`recording`](crate::trial::recording)); passwords are
//! removed before it becomes part of the report. What came of the trial is its [`Outcome`](super::Outcome), not here.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checks::Violation;
use crate::timeline::Entry;
use crate::valkey::ClusterObservation;
use crate::valkey::ledger::Verification;
use crate::valkey::load::LoadReport;
use crate::valkey::slots::SlotSet;

/// What was seen during one trial. Moments are milliseconds after the trial's start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TrialRecord {
    /// When the trial began (RFC 3339); absent for one that did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<jiff::Timestamp>,
    /// The seed of its run, where a merged report has trials of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The chart values in which it differs from its combination, by dotted path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, serde_json::Value>,
    /// How often each promise was asserted, and what came of it, by the name of its check.
    pub promises: BTreeMap<String, Promise>,
    /// Every violation that the trial ended with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
    /// Who owned which slots, each time that somebody looked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slot_maps: Vec<SlotMapReport>,
    /// What background loads met.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub availability: Vec<Availability>,
    /// What became of the keys of ledgers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ledgers: Vec<KeyFates>,
    /// The most telling facts of a failure whose cause no rule knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<String>,
    /// The ends of the logs and answers that the evidence of a failure has in full.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exhibits: Vec<Exhibit>,
    /// Everything that happened, in order.
    pub timeline: Vec<Entry>,
}

/// How often a promise was asserted, and what came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Promise {
    /// How often it was looked at and kept.
    pub kept: u32,
    /// How many violations of it the trial ended with.
    pub broken: u32,
}

/// Who owned which slots at one moment, from every node's own point of view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotMapReport {
    /// After which act it was, in a few words.
    pub what: String,
    /// The moment.
    pub at_ms: u64,
    /// One entry for each opinion, that of the most nodes first: more than one means that nodes disagree.
    pub views: Vec<SlotView>,
    /// Pods that gave no view, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub silent: BTreeMap<String, String>,
}

/// Who owns which slots in the opinion of some nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotView {
    /// The pods whose nodes say so.
    pub seen_by: Vec<String>,
    /// By owner (its pod, or the start of its node id), its slots as ranges such as `0-5460,5500`.
    #[schemars(with = "BTreeMap<String, String>")]
    pub owners: BTreeMap<String, SlotSet>,
}

/// What a background load met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Availability {
    /// During which act it ran, in a few words.
    pub what: String,
    /// When it began.
    pub at_ms: u64,
    /// How long it ran.
    pub duration_ms: u64,
    /// By the pod that owned the shard's slots at the start.
    pub shards: BTreeMap<String, ShardAvailability>,
}

/// What a background load met in one shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShardAvailability {
    /// The shard's slots at the start.
    #[schemars(with = "String")]
    pub slots: SlotSet,
    /// When the longest time without a successful write began.
    pub gap_at_ms: u64,
    /// How long it was.
    pub gap_ms: u64,
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Acknowledged writes that are gone, without a replica having confirmed them.
    pub unconfirmed_lost: u64,
    /// What stood in the way, and how often.
    pub obstacles: BTreeMap<String, u64>,
}

/// What became of a ledger's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyFates {
    /// After which act they were read, in a few words.
    pub what: String,
    /// When.
    pub at_ms: u64,
    /// How many keys, by class: intact, lost, stale …
    pub counts: BTreeMap<String, u64>,
    /// Keys that are gone although a replica had confirmed them.
    pub confirmed_gone: u64,
    /// Keys that are gone and that no replica had confirmed.
    pub unconfirmed_gone: u64,
    /// For classes that must not be: the slots that they are in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub slots: BTreeMap<String, SlotSet>,
}

/// The end of a text that the evidence has in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exhibit {
    /// The evidence file's name.
    pub name: String,
    /// Its last lines.
    pub text: String,
    /// How many lines before them are left out.
    pub omitted_lines: usize,
}

impl TrialRecord {
    /// Notes that these promises were looked at and kept.
    pub fn kept<'a>(&mut self, checks: impl IntoIterator<Item = &'a str>) {
        for check in checks {
            self.promises.entry(check.to_owned()).or_default().kept += 1;
        }
    }

    /// Notes the violations that the trial ended with.
    pub fn broken(&mut self, violations: &[Violation]) {
        for violation in violations {
            self.promises.entry(violation.check.clone()).or_default().broken += 1;
        }
        self.violations.extend_from_slice(violations);
    }
}

impl SlotMapReport {
    /// What `seen` says of the slots; nothing when no node has a cluster's view.
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

    /// Slots about which `view` and the first view disagree.
    pub fn disputed(&self, view: &SlotView) -> SlotSet {
        let Some(first) = self.views.first() else {
            return SlotSet::default();
        };
        differences(&first.owners, &view.owners)
    }
}

/// The slots that have another owner in `after` than in `before`, or an owner in only one of them.
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
    /// What `load` met; `at` says at which millisecond of the trial a moment was.
    pub fn new(what: &str, load: &LoadReport, at: impl Fn(jiff::Timestamp) -> u64) -> Self {
        let shard = |shard: &crate::valkey::load::ShardReport| ShardAvailability {
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
    /// What `verification` found.
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
