//! `RunReport`: a run, its cluster, and the outcome of every trial.
//!
//! The report is a value without behaviour. Every printed or exported form of a run is a projection
//! of it. The JSON form has a published schema (`harness/schema/report-v1.json`). The observations
//! of a trial are in [`record`](super::record).

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::deployment::Deployment;
use super::finding::Finding;
use super::known::Acceptance;
use super::record::TrialRecord;
use clusters::Provenance;

/// The version increases when a field changes its meaning or is removed. New optional fields do not
/// count.
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
    /// Duration, including the start of the cluster.
    pub duration_ms: u64,
    /// The verdict of the run about the deployment.
    pub verdict: RunVerdict,
    /// The reason for the verdict, in one sentence.
    pub because: String,
    /// The profile of the deployed values.
    pub profile: String,
    /// The seed of everything random in the run.
    pub seed: u64,
    /// The cluster of the run.
    pub provenance: Provenance,
    /// The deployment of the run.
    #[serde(default)]
    pub deployment: Deployment,
    /// The names of all trials of the suite, selected or not.
    #[serde(default)]
    pub catalogue: Vec<String>,
    /// The runs that this report was merged from, if it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<MergedRun>,
    /// Findings about the deployment, one entry for each defect, the worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The entries of the file of known findings, with the state of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Acceptance>,
    /// The comparison with an earlier run, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Every selected trial, in the order of their names.
    pub trials: Vec<TrialReport>,
    /// True if the run was stopped before its end.
    pub interrupted: bool,
}

/// A part of a merged report: one run with its trials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MergedRun {
    /// The run's identifier.
    pub run: String,
    /// When it began (RFC 3339).
    pub started: jiff::Timestamp,
    /// Number of trials in this part.
    pub trials: usize,
    /// The run's seed.
    pub seed: u64,
}

/// The verdict of a run about the deployment under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunVerdict {
    /// Every selected trial ran and passed.
    Qualified,
    /// Only known findings failed.
    QualifiedWithKnownFindings,
    /// At least one trial failed.
    NotQualified,
    /// Nothing failed, but the run proves nothing: it was cut short, or trials could not run.
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
    /// The outcome.
    pub outcome: Outcome,
    /// Duration, including evidence and clean-up.
    pub duration_ms: u64,
    /// The steps of the trial, in order.
    pub steps: Vec<StepReport>,
    /// Measurements by name: milliseconds unless the name says otherwise.
    pub measurements: BTreeMap<String, f64>,
    /// Path of the evidence, relative to the report.
    pub evidence: Option<PathBuf>,
    /// Left-overs that could not be removed. They do not change the outcome.
    pub cleanup: Vec<String>,
    /// Observations during the trial.
    #[serde(default)]
    pub record: TrialRecord,
}

impl TrialReport {
    /// A record that has only an outcome.
    pub fn blank(suite: &str, scenario: &str, mode: &str, variant: &str, outcome: Outcome) -> Self {
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
    /// Start of the step, in milliseconds after the trial's start.
    pub at_ms: u64,
    /// Time that it took.
    pub duration_ms: u64,
    /// True if the step reached its goal.
    pub succeeded: bool,
}

/// The outcome of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// Every assertion of the scenario holds.
    Passed,
    /// The deployment broke a promise.
    Failed {
        /// The most likely cause in one sentence, where the triage found one.
        cause: Option<String>,
        /// The assertion, and the observation.
        message: String,
    },
    /// The trial did not reach its subject, because of a defect that another trial shows.
    Blocked {
        /// The finding.
        by: String,
        /// The obstacle.
        reason: String,
    },
    /// The scenario cannot run on this cluster.
    Skipped {
        /// The requirement that the cluster does not meet.
        reason: String,
    },
    /// The act of the scenario did not take place, so the later observations prove nothing.
    Invalid {
        /// The act that did not take place.
        reason: String,
    },
    /// The environment failed, so the trial proves nothing about the deployment.
    Broken {
        /// The failure.
        reason: String,
    },
    /// The run was interrupted before the end of the trial.
    Interrupted {
        /// The progress of the trial.
        reason: String,
    },
}

impl RunVerdict {
    /// Returns the verdict in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Qualified => "qualified",
            Self::QualifiedWithKnownFindings => "qualified with known findings",
            Self::NotQualified => "not qualified",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl RunReport {
    /// Returns the report without its trials.
    pub fn without_trials(&self) -> Self {
        // Field by field, because copying all trials only to drop them would dominate the cost.
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
            findings,
            known,
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
            findings: findings.clone(),
            known: known.clone(),
            baseline: baseline.clone(),
            trials: Vec::new(),
            interrupted: *interrupted,
        }
    }
}

impl TrialReport {
    /// Returns the scenario with its suite: `suite::scenario`.
    pub fn story(&self) -> String {
        format!("{}::{}", self.suite, self.scenario)
    }

    /// Returns the reason for the outcome in one line: the cause if known, or else the first
    /// defect. A pass has none.
    pub fn headline(&self) -> Option<&str> {
        let defect = self.record.defects.first().map(|defect| defect.text.as_str());
        let why = match &self.outcome {
            Outcome::Passed => return None,
            Outcome::Failed {
                cause: Some(cause), ..
            } => cause,
            Outcome::Failed { cause: None, message } => defect.unwrap_or(message),
            Outcome::Blocked { reason, .. }
            | Outcome::Skipped { reason }
            | Outcome::Invalid { reason }
            | Outcome::Broken { reason }
            | Outcome::Interrupted { reason } => reason,
        };
        why.lines().next()
    }

    /// Returns the combination: `mode-variant`.
    pub fn combination(&self) -> String {
        format!("{}-{}", self.mode, self.variant)
    }
}

impl Outcome {
    /// Returns one word, for tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "pass",
            Self::Failed { .. } => "FAIL",
            Self::Blocked { .. } => "blocked",
            Self::Skipped { .. } => "skip",
            Self::Invalid { .. } => "invalid",
            Self::Broken { .. } => "broken",
            Self::Interrupted { .. } => "interrupted",
        }
    }

    /// Returns one sign, where there is no room for a word.
    pub fn sign(&self) -> &'static str {
        match self {
            Self::Passed => "✓",
            Self::Failed { .. } => "✗",
            Self::Blocked { .. } => "⊘",
            Self::Skipped { .. } => "–",
            Self::Interrupted { .. } => "…",
            Self::Invalid { .. } | Self::Broken { .. } => "!",
        }
    }

    /// Returns true if this is a failure of the deployment.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    /// Returns true if the trial began but proves nothing.
    pub fn is_doubtful(&self) -> bool {
        matches!(
            self,
            Self::Invalid { .. } | Self::Broken { .. } | Self::Interrupted { .. }
        )
    }

    /// Returns true if the trial ended by itself.
    pub fn has_run(&self) -> bool {
        !matches!(self, Self::Skipped { .. } | Self::Interrupted { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headline_is_the_cause_or_else_the_first_defect() {
        let failed = |cause: Option<&str>, message: &str| Outcome::Failed {
            cause: cause.map(str::to_owned),
            message: message.to_owned(),
        };
        let mut trial = samples::trial(
            "s",
            "a",
            "cluster",
            "rpm",
            failed(None, "failed to list pods:\nno answer"),
        );
        assert_eq!(trial.headline(), Some("failed to list pods:"));
        trial.record.defects = vec![super::super::finding::tests::defect("slots", "data")];
        assert_eq!(trial.headline(), Some("slots is wrong on vk-0"));
        trial.outcome = failed(Some("masterauth is missing\nmore"), "x");
        assert_eq!(trial.headline(), Some("masterauth is missing"));
        trial.outcome = Outcome::Passed;
        assert_eq!(trial.headline(), None);
    }
}

#[cfg(test)]
pub(crate) mod samples {
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
        let (found, because) = verdict(&trials, false);
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
            findings: Vec::new(),
            known: Vec::new(),
            baseline: None,
            trials,
            interrupted: false,
        }
    }
}
