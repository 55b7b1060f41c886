//! A comparison with an earlier run: regressions, repairs, and changes of speed beyond noise.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Outcome, RunReport, RunVerdict, TrialReport};

/// Standard deviations of the spread beyond which a trial counts as slower or faster. Three leave
/// one false alarm in some hundred trials.
const DEVIATIONS: f64 = 3.0;

/// The spread of a normal distribution in units of its median absolute deviation.
const DEVIATION_PER_MAD: f64 = 1.4826;

/// The smallest ratio that counts. A change of less than a quarter is noise in any run, because
/// trials wait for servers that poll.
const LEAST_RATIO: f64 = 1.25;

/// The smallest change that counts, at any ratio: nobody notices less.
const LEAST_MS: f64 = 500.0;

/// An earlier run, and the differences of this run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baseline {
    /// The earlier run's identifier.
    pub run: String,
    /// When it began (RFC 3339).
    pub started: Timestamp,
    /// The verdict of the earlier run.
    pub verdict: RunVerdict,
    /// True if a user named the run (`--baseline`). False for the previous run in the same folder.
    pub asked_for: bool,
    /// Its trials, by name.
    pub trials: BTreeMap<String, PastTrial>,
    /// The differences.
    pub changes: Changes,
}

/// A trial of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PastTrial {
    /// The outcome, in one word.
    pub outcome: String,
    /// Time that it took.
    pub duration_ms: u64,
}

/// Differences between two runs; trials by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// Trials that failed in this run but not in the earlier one.
    pub new_failures: Vec<String>,
    /// Trials that failed in the earlier run and pass in this one.
    pub fixed: Vec<String>,
    /// Trials that failed in both.
    pub still_failing: Vec<String>,
    /// Trials that took longer than noise explains.
    pub slower: Vec<Pace>,
    /// Trials that took less time than noise explains.
    pub faster: Vec<Pace>,
    /// Trials that ran only in this run.
    pub added: Vec<String>,
    /// Trials that ran only in the earlier run.
    pub removed: Vec<String>,
    /// Promises with different states in the two runs.
    pub promises: Vec<PromiseChange>,
}

/// Durations of a trial in two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pace {
    /// The trial's name.
    pub trial: String,
    /// Duration in the earlier run.
    pub before_ms: u64,
    /// Duration in this run.
    pub after_ms: u64,
}

/// A promise of a trial with different states in two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PromiseChange {
    /// The trial's name.
    pub trial: String,
    /// The check's name.
    pub promise: String,
    /// The state in the earlier run: kept, broken, or not asserted.
    pub before: String,
    /// The state in this run.
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
    /// Returns true if a regression needs the attention of a release manager.
    pub fn regressed(&self) -> bool {
        !self.new_failures.is_empty()
    }

    /// Returns true if there are no changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Returns the differences of `after`.
pub fn changes(before: &RunReport, after: &RunReport) -> Changes {
    let ran = |trial: &&TrialReport| trial.outcome.has_run();
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
    // A report without any promises predates their recording and cannot be compared.
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

/// A change of one promise that several trials share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromiseShift<'a> {
    /// The check's name.
    pub promise: &'a str,
    /// The state in the earlier run.
    pub before: &'a str,
    /// The state in this run.
    pub after: &'a str,
    /// The trials with this change.
    pub trials: Vec<&'a str>,
}

/// Groups equal changes of promises over all trials. The order is: now broken, no longer asserted,
/// repaired, and others.
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

/// Separates slower and faster trials from noise. Divides by the median ratio first, because the
/// two runs' machines may differ in speed. The rest must exceed the usual spread.
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

/// Returns the middle value; 0 if there are no values.
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
    use crate::model::samples::{report, trial};

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
