//! `RunReport`: what a run was, what it ran on, and what came of every trial.
//!
//! It is a value without behaviour; everything that prints or exports a run is a projection of it. Its JSON form is published
//! as a schema (`harness/schema/report-v1.json`). What was seen during a trial is in [`record`](super::record).

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::deployment::Deployment;
use super::record::TrialRecord;
use crate::cluster::Provenance;

/// Raised when a field changes its meaning or goes away; new optional fields do not raise it.
pub const SCHEMA_VERSION: u32 = 1;

/// One run of the suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema: u32,
    /// The run's identifier; every namespace of the run carries it as a label.
    pub run: String,
    /// When the run began (RFC 3339).
    pub started: jiff::Timestamp,
    /// How long it took, cluster start included.
    pub duration_ms: u64,
    /// What the run says about the deployment.
    pub verdict: RunVerdict,
    /// Why the verdict is what it is, in one sentence.
    pub because: String,
    /// The profile whose values were deployed.
    pub profile: String,
    /// The seed of everything random in the run.
    pub seed: u64,
    /// What it ran on.
    pub provenance: Provenance,
    /// What was deployed.
    #[serde(default)]
    pub deployment: Deployment,
    /// The names of all trials that the suite has, selected or not.
    #[serde(default)]
    pub catalogue: Vec<String>,
    /// The runs that this report was put together from, if it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<MergedRun>,
    /// How it compares with an earlier run, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Every selected trial, in the order of their names.
    pub trials: Vec<TrialReport>,
    /// The run was stopped before its end.
    pub interrupted: bool,
}

/// A run whose trials are part of a merged report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MergedRun {
    /// The run's identifier.
    pub run: String,
    /// When it began (RFC 3339).
    pub started: jiff::Timestamp,
    /// How many trials it contributed.
    pub trials: usize,
    /// Its seed.
    pub seed: u64,
}

/// What a run says about the deployment under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunVerdict {
    /// Every selected trial ran and passed.
    Qualified,
    /// At least one trial failed.
    NotQualified,
    /// Nothing failed, and yet the run proves nothing: it was cut short, or trials could not be run.
    Inconclusive,
}

/// One trial: a scenario in one mode and variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialReport {
    /// `suite::scenario::mode-variant`.
    pub name: String,
    /// The suite's name.
    pub suite: String,
    /// The scenario's name within its suite.
    pub scenario: String,
    /// `standalone` or `cluster`.
    pub mode: String,
    /// `rpm` or `hardened`.
    pub variant: String,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took, evidence and clean-up included.
    pub duration_ms: u64,
    /// Its steps, in order.
    pub steps: Vec<StepReport>,
    /// What it measured, by name: milliseconds unless the name says otherwise.
    pub measurements: BTreeMap<String, f64>,
    /// Where its evidence is, relative to the report.
    pub evidence: Option<PathBuf>,
    /// What could not be cleaned up; never hides the outcome.
    pub cleanup: Vec<String>,
    /// What was seen during it.
    #[serde(default)]
    pub record: TrialRecord,
}

impl TrialReport {
    /// One of which nothing is known but its outcome.
    pub(crate) fn blank(suite: &str, scenario: &str, mode: &str, variant: &str, outcome: Outcome) -> Self {
        Self {
            name: format!("{suite}::{scenario}::{mode}-{variant}"),
            suite: suite.to_owned(),
            scenario: scenario.to_owned(),
            mode: mode.to_owned(),
            variant: variant.to_owned(),
            outcome,
            duration_ms: 0,
            steps: Vec::new(),
            measurements: BTreeMap::new(),
            evidence: None,
            cleanup: Vec::new(),
            record: TrialRecord::default(),
        }
    }
}

/// One step of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepReport {
    /// The step in a few words, such as `install`.
    pub name: String,
    /// When it began, in milliseconds after the trial's start.
    pub at_ms: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether it did what it was for.
    pub succeeded: bool,
}

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// Everything that the scenario asserts holds.
    Passed,
    /// The deployment did not keep a promise.
    Failed {
        /// The most likely cause, in one sentence, where the triage knows one.
        cause: Option<String>,
        /// What was asserted, and what was seen.
        message: String,
    },
    /// The scenario does not fit this cluster.
    Skipped {
        /// What it needs that the cluster does not have.
        reason: String,
    },
    /// What the scenario does to the deployment did not take place, so that nothing follows from what was seen after.
    Invalid {
        /// What did not take place.
        reason: String,
    },
    /// The environment failed, and nothing was learnt about the deployment.
    Broken {
        /// What failed.
        reason: String,
    },
}

impl RunVerdict {
    /// As people write it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Qualified => "qualified",
            Self::NotQualified => "not qualified",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl RunReport {
    /// What is said of the run itself.
    pub fn without_trials(&self) -> Self {
        // Field by field: a copy of the trials, only to drop them, would be most of the work.
        let Self {
            schema,
            run,
            started,
            duration_ms,
            verdict,
            because,
            profile,
            seed,
            provenance,
            deployment,
            catalogue,
            merged,
            baseline,
            trials: _,
            interrupted,
        } = self;
        Self {
            schema: *schema,
            run: run.clone(),
            started: *started,
            duration_ms: *duration_ms,
            verdict: *verdict,
            because: because.clone(),
            profile: profile.clone(),
            seed: *seed,
            provenance: provenance.clone(),
            deployment: deployment.clone(),
            catalogue: catalogue.clone(),
            merged: merged.clone(),
            baseline: baseline.clone(),
            trials: Vec::new(),
            interrupted: *interrupted,
        }
    }
}

impl TrialReport {
    /// The scenario with its suite: `suite::scenario`.
    pub fn story(&self) -> String {
        format!("{}::{}", self.suite, self.scenario)
    }

    /// The combination: `mode-variant`.
    pub fn combination(&self) -> String {
        format!("{}-{}", self.mode, self.variant)
    }
}

impl Outcome {
    /// One word for tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "pass",
            Self::Failed { .. } => "FAIL",
            Self::Skipped { .. } => "skip",
            Self::Invalid { .. } => "invalid",
            Self::Broken { .. } => "broken",
        }
    }

    /// One sign for where there is no room for a word.
    pub fn sign(&self) -> &'static str {
        match self {
            Self::Passed => "✓",
            Self::Failed { .. } => "✗",
            Self::Skipped { .. } => "–",
            Self::Invalid { .. } | Self::Broken { .. } => "!",
        }
    }

    /// Whether this is a failure of the deployment.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    /// Why it is what it is, in one line: the cause where one is known, or else the first promise that is broken; nothing
    /// for a pass.
    pub fn headline(&self) -> Option<&str> {
        let why = match self {
            Self::Passed => return None,
            Self::Failed { cause, message } => cause.as_ref().unwrap_or(message),
            Self::Skipped { reason } | Self::Invalid { reason } | Self::Broken { reason } => reason,
        };
        let mut lines = why.lines();
        let first = lines.next()?;
        let listed = lines.next().and_then(|line| line.strip_prefix("  - "));
        Some(listed.filter(|_| first.ends_with(':')).unwrap_or(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headline_is_the_cause_or_else_the_first_thing_that_is_wrong() {
        let failed = |cause: Option<&str>, message: &str| Outcome::Failed {
            cause: cause.map(str::to_owned),
            message: message.to_owned(),
        };
        let listed = "2 of the promises do not hold now:\n  - data: slot 5: 1 key lost\n  - load: a gap";
        for (outcome, headline) in [
            (
                failed(Some("masterauth is missing\nmore"), listed),
                "masterauth is missing",
            ),
            (failed(None, listed), "data: slot 5: 1 key lost"),
            (
                failed(None, "failed to list pods:\nno answer"),
                "failed to list pods:",
            ),
        ] {
            assert_eq!(outcome.headline(), Some(headline));
        }
        assert_eq!(Outcome::Passed.headline(), None);
    }
}

/// Values that the tests of the projections start from.
#[cfg(test)]
pub(crate) mod tests_support {
    use super::super::verdict::verdict;
    use super::*;

    pub(crate) fn trial(
        suite: &str,
        scenario: &str,
        mode: &str,
        variant: &str,
        outcome: Outcome,
    ) -> TrialReport {
        TrialReport {
            duration_ms: 1234,
            ..TrialReport::blank(suite, scenario, mode, variant, outcome)
        }
    }

    pub(crate) fn report(trials: Vec<TrialReport>) -> RunReport {
        let (found, because) = verdict(trials.iter().map(|trial| &trial.outcome), false);
        RunReport {
            schema: SCHEMA_VERSION,
            run: "r1".into(),
            started: jiff::Timestamp::UNIX_EPOCH,
            duration_ms: 5678,
            verdict: found,
            because,
            profile: "fast".into(),
            seed: 7,
            provenance: Provenance::default(),
            deployment: Deployment::default(),
            catalogue: Vec::new(),
            merged: Vec::new(),
            baseline: None,
            trials,
            interrupted: false,
        }
    }
}
