//! `RunReport`: what a run was, what it ran on, and what came of every trial.
//!
//! It is a value with no behaviour but its verdict; everything that prints or exports a run is a projection of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cluster::Provenance;

/// Raised when a field changes its meaning or goes away; new optional fields do not raise it.
pub const SCHEMA_VERSION: u32 = 1;

/// One run of the suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Every selected trial, in the order of their names.
    pub trials: Vec<TrialReport>,
    /// The run was stopped before its end.
    pub interrupted: bool,
}

/// What a run says about the deployment under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    pub measurements: std::collections::BTreeMap<String, f64>,
    /// Where its evidence is, relative to the report.
    pub evidence: Option<PathBuf>,
    /// What could not be cleaned up; never hides the outcome.
    pub cleanup: Vec<String>,
}

/// One step of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Whether this is a failure of the deployment.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// Derives a run's verdict, and the sentence that explains it, from the outcomes of its trials. An empty run, a run that
/// was cut short and a run that skipped everything are never green.
pub fn verdict<'a>(
    outcomes: impl IntoIterator<Item = &'a Outcome>,
    interrupted: bool,
) -> (RunVerdict, String) {
    let (mut passed, mut failed, mut skipped, mut invalid, mut broken) = (0, 0, 0, 0, 0);
    for outcome in outcomes {
        match outcome {
            Outcome::Passed => passed += 1,
            Outcome::Failed { .. } => failed += 1,
            Outcome::Skipped { .. } => skipped += 1,
            Outcome::Invalid { .. } => invalid += 1,
            Outcome::Broken { .. } => broken += 1,
        }
    }
    let total: usize = passed + failed + skipped + invalid + broken;
    if failed > 0 {
        return (
            RunVerdict::NotQualified,
            format!("{failed} of {} failed", trials(total)),
        );
    }
    let inconclusive = |because: String| (RunVerdict::Inconclusive, because);
    if interrupted {
        return inconclusive(format!(
            "the run was interrupted after {passed} trials had passed"
        ));
    }
    if broken > 0 {
        return inconclusive(format!(
            "{broken} of {} could not be run: the environment is at fault",
            trials(total)
        ));
    }
    if invalid > 0 {
        return inconclusive(format!(
            "{invalid} of {} invalid: the fault did not take place",
            trials(total)
        ));
    }
    if passed == 0 {
        return inconclusive(format!("no trial ran ({skipped} skipped)"));
    }
    let skips = if skipped > 0 {
        format!(", {skipped} skipped")
    } else {
        String::new()
    };
    (RunVerdict::Qualified, format!("{} passed{skips}", trials(passed)))
}

fn trials(count: usize) -> String {
    if count == 1 {
        "1 trial".to_owned()
    } else {
        format!("{count} trials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Outcome {
        Outcome::Failed {
            cause: None,
            message: "x".into(),
        }
    }

    fn skipped() -> Outcome {
        Outcome::Skipped { reason: "x".into() }
    }

    #[test]
    fn a_failure_outweighs_everything_else() {
        let broken = Outcome::Broken { reason: "x".into() };
        let (found, because) = verdict(&[Outcome::Passed, failed(), broken], true);
        assert_eq!(
            (found, because.as_str()),
            (RunVerdict::NotQualified, "1 of 3 trials failed")
        );
    }

    #[test]
    fn nothing_run_is_never_green() {
        for outcomes in [vec![], vec![skipped(), skipped()]] {
            assert_eq!(
                verdict(&outcomes, false).0,
                RunVerdict::Inconclusive,
                "{outcomes:?}"
            );
        }
        assert_eq!(verdict(&[Outcome::Passed], true).0, RunVerdict::Inconclusive);
        assert_eq!(
            verdict(&[Outcome::Passed, Outcome::Broken { reason: "x".into() }], false).0,
            RunVerdict::Inconclusive
        );
    }

    #[test]
    fn green_says_how_much_was_skipped() {
        let (found, because) = verdict(&[Outcome::Passed, skipped()], false);
        assert_eq!(
            (found, because.as_str()),
            (RunVerdict::Qualified, "1 trial passed, 1 skipped")
        );
    }
}

/// Values that the tests of the projections start from.
#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    pub(crate) fn trial(
        suite: &str,
        scenario: &str,
        mode: &str,
        variant: &str,
        outcome: Outcome,
    ) -> TrialReport {
        TrialReport {
            name: format!("{suite}::{scenario}::{mode}-{variant}"),
            suite: suite.into(),
            scenario: scenario.into(),
            mode: mode.into(),
            variant: variant.into(),
            outcome,
            duration_ms: 1234,
            steps: Vec::new(),
            measurements: std::collections::BTreeMap::new(),
            evidence: None,
            cleanup: Vec::new(),
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
            trials,
            interrupted: false,
        }
    }
}
