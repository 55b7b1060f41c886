//! What an earlier run found, beside what this one found: regressions, repairs, and what became slower than noise.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Outcome, RunReport, RunVerdict, TrialReport};

/// A trial is slower (or faster) only beyond this many of the spread's standard deviations: three leave one false alarm in
/// some hundred trials.
const DEVIATIONS: f64 = 3.0;

/// The spread of a normal distribution in units of its median absolute deviation.
const DEVIATION_PER_MAD: f64 = 1.4826;

/// However little the others vary, a change of less than a quarter is noise: trials wait for servers that poll.
const LEAST_RATIO: f64 = 1.25;

/// However large the ratio, nobody feels a change below this.
const LEAST_MS: f64 = 500.0;

/// An earlier run, and how this one differs from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baseline {
    /// The earlier run's identifier.
    pub run: String,
    /// When it began (RFC 3339).
    pub started: Timestamp,
    /// What it said.
    pub verdict: RunVerdict,
    /// Whether a person named it (`--baseline`), rather than it being the run before in the same folder.
    pub asked_for: bool,
    /// Its trials, by name.
    pub trials: BTreeMap<String, PastTrial>,
    /// What is different.
    pub changes: Changes,
}

/// A trial of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PastTrial {
    /// What came of it, in one word.
    pub outcome: String,
    /// How long it took.
    pub duration_ms: u64,
}

/// What is different between two runs; trials by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// They failed here and did not before.
    pub new_failures: Vec<String>,
    /// They failed before and pass here.
    pub fixed: Vec<String>,
    /// They failed in both.
    pub still_failing: Vec<String>,
    /// They took longer than noise explains.
    pub slower: Vec<Pace>,
    /// They took less time than noise explains.
    pub faster: Vec<Pace>,
    /// They ran here only.
    pub added: Vec<String>,
    /// They ran before only.
    pub removed: Vec<String>,
    /// Promises that are asserted here and were not before, or the other way round.
    pub promises: Vec<PromiseChange>,
}

/// How long a trial took in two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pace {
    /// Its name.
    pub trial: String,
    /// In the earlier run.
    pub before_ms: u64,
    /// In this one.
    pub after_ms: u64,
}

/// A promise of a trial that only one of two runs looked at, or that only one found kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PromiseChange {
    /// The trial's name.
    pub trial: String,
    /// The check's name.
    pub promise: String,
    /// What became of it in the earlier run: kept, broken, or not asserted.
    pub before: String,
    /// What became of it in this one.
    pub after: String,
}

impl Baseline {
    /// Compares `after` with `before`.
    pub fn new(before: &RunReport, after: &RunReport, asked_for: bool) -> Self {
        let past = |trial: &TrialReport| PastTrial {
            outcome: trial.outcome.word().to_owned(),
            duration_ms: trial.duration_ms,
        };
        Self {
            run: before.run.clone(),
            started: before.started,
            verdict: before.verdict,
            asked_for,
            trials: before
                .trials
                .iter()
                .map(|trial| (trial.name.clone(), past(trial)))
                .collect(),
            changes: changes(before, after),
        }
    }
}

impl Changes {
    /// Whether anything got worse that a release manager must know of.
    pub fn regressed(&self) -> bool {
        !self.new_failures.is_empty()
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is different in `after`.
pub fn changes(before: &RunReport, after: &RunReport) -> Changes {
    let ran = |trial: &&TrialReport| !matches!(trial.outcome, Outcome::Skipped { .. });
    fn by_name<'a>(trials: impl Iterator<Item = &'a TrialReport>) -> BTreeMap<&'a String, &'a TrialReport> {
        trials.map(|trial| (&trial.name, trial)).collect()
    }
    let then = by_name(before.trials.iter().filter(ran));
    let now = by_name(after.trials.iter().filter(ran));
    let mut changes = Changes::default();
    let mut pairs = Vec::new();
    for (&name, &trial) in &now {
        let Some(&past) = then.get(name) else {
            changes.added.push(name.clone());
            if trial.outcome.is_failure() {
                changes.new_failures.push(name.clone());
            }
            continue;
        };
        match (past.outcome.is_failure(), trial.outcome.is_failure()) {
            (false, true) => changes.new_failures.push(name.clone()),
            (true, true) => changes.still_failing.push(name.clone()),
            (true, false) if trial.outcome == Outcome::Passed => changes.fixed.push(name.clone()),
            (_, false) => {}
        }
        changes.promises.extend(promise_changes(past, trial));
        if past.outcome == Outcome::Passed && trial.outcome == Outcome::Passed {
            pairs.push(Pace {
                trial: name.clone(),
                before_ms: past.duration_ms,
                after_ms: trial.duration_ms,
            });
        }
    }
    changes.removed = then
        .keys()
        .filter(|name| !now.contains_key(*name))
        .map(|name| (*name).clone())
        .collect();
    (changes.slower, changes.faster) = beyond_noise(&pairs);
    changes
}

fn promise_changes(before: &TrialReport, after: &TrialReport) -> Vec<PromiseChange> {
    let (then, now) = (&before.record.promises, &after.record.promises);
    // A report from before promises were recorded says nothing about them.
    if then.is_empty() || now.is_empty() {
        return Vec::new();
    }
    let word = |promise: Option<&super::record::Promise>| match promise {
        None => "not asserted",
        Some(promise) if promise.broken > 0 => "broken",
        Some(_) => "kept",
    };
    let names: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let (before, after_word) = (word(then.get(name)), word(now.get(name)));
            (before != after_word).then(|| PromiseChange {
                trial: after.name.clone(),
                promise: name.clone(),
                before: before.to_owned(),
                after: after_word.to_owned(),
            })
        })
        .collect()
}

/// The same change of one promise in some trials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromiseShift<'a> {
    /// The check's name.
    pub promise: &'a str,
    /// What became of it in the earlier run.
    pub before: &'a str,
    /// What became of it in this one.
    pub after: &'a str,
    /// In which trials.
    pub trials: Vec<&'a str>,
}

/// Changes of promises, those that are the same in several trials told once: what is broken now first, what is no longer
/// looked at next, what is merely new last.
pub fn shifts(changes: &[PromiseChange]) -> Vec<PromiseShift<'_>> {
    let mut found: BTreeMap<(u8, &str, &str, &str), Vec<&str>> = BTreeMap::new();
    for change in changes {
        let weight = match (change.after.as_str(), change.before.as_str()) {
            ("broken", _) => 0,
            ("not asserted", _) => 1,
            (_, "broken") => 2,
            _ => 3,
        };
        let key = (
            weight,
            change.promise.as_str(),
            change.before.as_str(),
            change.after.as_str(),
        );
        found.entry(key).or_default().push(&change.trial);
    }
    let shift = |((_, promise, before, after), trials)| PromiseShift {
        promise,
        before,
        after,
        trials,
    };
    found.into_iter().map(shift).collect()
}

/// Tells slower and faster trials from noise. The two runs' machines may differ in speed: what all trials have in common is
/// taken out (the median of the ratios), and the rest must exceed what is usual among them.
fn beyond_noise(pairs: &[Pace]) -> (Vec<Pace>, Vec<Pace>) {
    let ratio = |pair: &Pace| (ms(pair.after_ms).max(1.0) / ms(pair.before_ms).max(1.0)).ln();
    let common = median(pairs.iter().map(ratio).collect());
    let spread = DEVIATION_PER_MAD * median(pairs.iter().map(|pair| (ratio(pair) - common).abs()).collect());
    let limit = (DEVIATIONS * spread).max(LEAST_RATIO.ln());
    let beyond = |pair: &&Pace| {
        let expected = ms(pair.before_ms) * common.exp();
        (ratio(pair) - common).abs() > limit && (ms(pair.after_ms) - expected).abs() >= LEAST_MS
    };
    let (mut slower, mut faster): (Vec<Pace>, Vec<Pace>) = pairs
        .iter()
        .filter(beyond)
        .cloned()
        .partition(|pair| ratio(pair) > common);
    let change = |pair: &Pace| std::cmp::Reverse(pair.after_ms.abs_diff(pair.before_ms));
    slower.sort_by_key(change);
    faster.sort_by_key(change);
    (slower, faster)
}

/// The middle value; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a trial lasts less than 2^53 milliseconds"
)]
fn ms(duration: u64) -> f64 {
    duration as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::tests_support::{report, trial};

    fn failed() -> Outcome {
        Outcome::Failed {
            cause: None,
            message: "x".into(),
        }
    }

    fn run(outcomes: &[(&str, Outcome)]) -> RunReport {
        let trials = outcomes
            .iter()
            .map(|(name, outcome)| trial("s", name, "cluster", "rpm", outcome.clone()));
        report(trials.collect())
    }

    #[test]
    fn failures_are_new_fixed_or_still_there() {
        let before = run(&[
            ("a", Outcome::Passed),
            ("b", failed()),
            ("c", failed()),
            ("d", Outcome::Passed),
        ]);
        let after = run(&[
            ("a", failed()),
            ("b", Outcome::Passed),
            ("c", failed()),
            ("e", failed()),
        ]);
        let found = changes(&before, &after);
        assert_eq!(found.new_failures, ["s::a::cluster-rpm", "s::e::cluster-rpm"]);
        assert_eq!(found.fixed, ["s::b::cluster-rpm"]);
        assert_eq!(found.still_failing, ["s::c::cluster-rpm"]);
        assert_eq!(found.added, ["s::e::cluster-rpm"]);
        assert_eq!(found.removed, ["s::d::cluster-rpm"]);
        assert!(found.regressed());
        assert!(changes(&before, &before).new_failures.is_empty());
    }

    #[test]
    fn a_slower_machine_is_no_slower_trial() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let mut before = run(&names.map(|name| (name, Outcome::Passed)));
        for (index, trial) in before.trials.iter_mut().enumerate() {
            trial.duration_ms = 4000 + 700 * index as u64;
        }
        let mut after = before.clone();
        for (index, trial) in after.trials.iter_mut().enumerate() {
            trial.duration_ms = trial.duration_ms * 2 + 40 * (index as u64 % 3);
        }
        assert!(changes(&before, &after).is_empty());
        after.trials[2].duration_ms *= 2;
        let found = changes(&before, &after);
        assert_eq!(found.slower.len(), 1);
        assert_eq!(found.slower[0].trial, "s::c::cluster-rpm");
        assert!(found.faster.is_empty());
    }

    #[test]
    fn a_promise_that_is_no_longer_looked_at_is_told() {
        let mut before = run(&[("a", Outcome::Passed)]);
        before.trials[0].record.kept(["bus", "balance"]);
        let mut after = run(&[("a", Outcome::Passed)]);
        after.trials[0].record.kept(["bus"]);
        let found = changes(&before, &after).promises;
        assert_eq!(found.len(), 1);
        assert_eq!(
            (
                found[0].promise.as_str(),
                found[0].before.as_str(),
                found[0].after.as_str()
            ),
            ("balance", "kept", "not asserted")
        );
    }
}
