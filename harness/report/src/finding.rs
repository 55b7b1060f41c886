//! Findings: the defects of the deployment, one entry for each, over all trials of a run.
//!
//! Other trials of a combination may fail during set-up with a defect that one trial already shows.
//! Such a trial counts as blocked by the finding, not as another failure.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defect::{Defect, RecognisedCause};
use super::known::Acceptance;
use super::model::{Outcome, TrialReport};

/// The first steps of every scenario.
const SETUP: [&str; 2] = ["install", "become healthy"];

/// The suite that tests these steps themselves.
const SETUP_SUITE: &str = "formation";

/// Promises by the cost of breaking them, highest first. Any other promise ranks last.
const SEVERITY: [&str; 8] = [
    "data",
    "last_copy",
    "deployment",
    "hooks",
    "slot_coverage",
    "cluster_state",
    "replication",
    "password",
];

/// One defect, with the trials that show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The defect's identifier, for the file of known findings.
    pub id: String,
    /// The kind of defect in a few words.
    pub title: String,
    /// The defect, in the words of the first trial that shows it.
    pub text: String,
    /// The cause that a rule recognised; absent if only the broken promise is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<RecognisedCause>,
    /// The promises that the defect breaks.
    pub promises: Vec<String>,
    /// The trials that show the defect.
    pub trials: Vec<String>,
    /// The trials that the defect blocked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<String>,
    /// The lines of the first trial that show the defect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// The entry of the file of known findings that accepts the finding in every trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Acceptance>,
}

impl Finding {
    fn new(defect: &Defect) -> Self {
        Self {
            id: defect.id.clone(),
            title: defect.title.clone(),
            text: defect.text.clone(),
            cause: defect.cause.clone(),
            promises: Vec::new(),
            trials: Vec::new(),
            blocked: Vec::new(),
            evidence: defect.evidence.clone(),
            known: None,
        }
    }

    /// Iterates over every trial that the finding concerns.
    pub fn concerned(&self) -> impl Iterator<Item = &String> {
        self.trials.iter().chain(&self.blocked)
    }

    fn severity(&self) -> usize {
        let rank = |promise: &String| SEVERITY.iter().position(|known| known == promise);
        self.promises
            .iter()
            .filter_map(rank)
            .min()
            .unwrap_or(SEVERITY.len())
    }
}

/// Marks blocked trials, and folds the defects of all trials into findings, the worst first.
pub fn fold(trials: &mut [TrialReport]) -> Vec<Finding> {
    mark_blocked(trials);
    let mut findings: BTreeMap<String, Finding> = BTreeMap::new();
    for trial in trials.iter() {
        let blocked = matches!(trial.outcome, Outcome::Blocked { .. });
        for (place, defect) in trial.record.defects.iter().enumerate() {
            let finding = findings
                .entry(defect.id.clone())
                .or_insert_with(|| Finding::new(defect));
            let list = if blocked && place == 0 {
                &mut finding.blocked
            } else {
                &mut finding.trials
            };
            if !list.contains(&trial.name) {
                list.push(trial.name.clone());
            }
            for promise in &defect.promises {
                if !finding.promises.contains(promise) {
                    finding.promises.push(promise.clone());
                }
            }
        }
    }
    let mut findings: Vec<Finding> = findings.into_values().collect();
    findings.sort_by_key(|finding| {
        (
            finding.severity(),
            std::cmp::Reverse(finding.concerned().count()),
            finding.id.clone(),
        )
    });
    findings
}

/// Marks failures as blocked where another trial of the combination tests what failed.
fn mark_blocked(trials: &mut [TrialReport]) {
    let mut witnesses: BTreeMap<(String, String), (bool, String)> = BTreeMap::new();
    for trial in trials.iter() {
        let Some(defect) = first_defect(trial) else {
            continue;
        };
        let key = (trial.combination(), defect.id.clone());
        let is_about = trial.suite == SETUP_SUITE || !failed_in_setup(trial);
        let candidate = (!is_about, trial.name.clone());
        match witnesses.get_mut(&key) {
            Some(known) if *known <= candidate => {}
            Some(known) => *known = candidate,
            None => {
                witnesses.insert(key, candidate);
            }
        }
    }
    let witnesses: BTreeSet<String> = witnesses.into_values().map(|(_, name)| name).collect();
    for trial in trials {
        let is_about = trial.suite == SETUP_SUITE || !failed_in_setup(trial);
        if is_about || witnesses.contains(&trial.name) {
            continue;
        }
        let Some(by) = first_defect(trial).map(|defect| defect.id.clone()) else {
            continue;
        };
        if let Outcome::Failed { cause, message } = &trial.outcome {
            trial.outcome = Outcome::Blocked {
                by,
                reason: cause.clone().unwrap_or_else(|| message.clone()),
            };
        }
    }
}

fn first_defect(trial: &TrialReport) -> Option<&Defect> {
    trial
        .record
        .defects
        .first()
        .filter(|_| trial.outcome.is_failure())
}

/// Returns true if the trial failed in one of the first steps of every scenario.
fn failed_in_setup(trial: &TrialReport) -> bool {
    let failed = trial.steps.iter().position(|step| !step.succeeded);
    let before = failed.map(|place| &trial.steps[..=place]);
    before.is_some_and(|steps| {
        steps.len() <= SETUP.len() && steps.iter().all(|step| SETUP.contains(&step.name.as_str()))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::StepReport;
    use crate::model::samples::trial;

    pub(crate) fn defect(id: &str, promise: &str) -> Defect {
        Defect {
            id: id.to_owned(),
            title: format!("{id} is wrong"),
            text: format!("{id} is wrong on vk-0"),
            cause: None,
            promises: vec![promise.to_owned()],
            evidence: vec!["a line".to_owned()],
        }
    }

    /// Returns a trial that failed in `step` with these defects.
    pub(crate) fn failed(suite: &str, scenario: &str, step: &str, defects: Vec<Defect>) -> TrialReport {
        let outcome = Outcome::Failed {
            cause: None,
            message: "x".into(),
        };
        let mut failed = trial(suite, scenario, "cluster", "rpm", outcome);
        failed.steps = vec![StepReport {
            name: step.to_owned(),
            at_ms: 0,
            duration_ms: 1,
            succeeded: false,
        }];
        failed.record.defects = defects;
        failed
    }

    #[test]
    fn one_defect_in_many_trials_is_one_finding() {
        let mut trials: Vec<TrialReport> = (0..30)
            .map(|number| {
                failed(
                    "scaling",
                    &format!("s{number}"),
                    "upgrade",
                    vec![defect("masterauth", "replication")],
                )
            })
            .collect();
        let findings = fold(&mut trials);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].trials.len(), findings[0].blocked.len()), (30, 0));
    }

    #[test]
    fn a_formation_finding_blocks_trials_that_fail_in_setup() {
        let mut trials = vec![
            failed("scaling", "up", "install", vec![defect("masterauth", "hooks")]),
            failed(
                "formation",
                "forms",
                "install",
                vec![defect("masterauth", "hooks")],
            ),
            failed("scaling", "down", "upgrade", vec![defect("forget", "forgotten")]),
        ];
        let findings = fold(&mut trials);
        assert!(
            matches!(&trials[0].outcome, Outcome::Blocked { by, .. } if by == "masterauth"),
            "{:?}",
            trials[0].outcome
        );
        assert!(trials[1].outcome.is_failure() && trials[2].outcome.is_failure());
        let told: Vec<(&str, usize, usize)> = findings
            .iter()
            .map(|finding| (finding.id.as_str(), finding.trials.len(), finding.blocked.len()))
            .collect();
        assert_eq!(told, [("masterauth", 1, 1), ("forget", 1, 0)]);
    }

    #[test]
    fn without_another_witness_a_failed_setup_stays_a_failure() {
        let mut trials = vec![failed(
            "scaling",
            "up",
            "install",
            vec![defect("masterauth", "hooks")],
        )];
        fold(&mut trials);
        assert!(trials[0].outcome.is_failure());
    }

    #[test]
    fn the_worst_comes_first() {
        let mut trials = vec![
            failed("a", "x", "upgrade", vec![defect("tmp", "security")]),
            failed("a", "y", "upgrade", vec![defect("tmp", "security")]),
            failed("a", "z", "upgrade", vec![defect("lost", "data")]),
        ];
        let ids: Vec<String> = fold(&mut trials).into_iter().map(|finding| finding.id).collect();
        assert_eq!(ids, ["lost", "tmp"]);
    }
}
