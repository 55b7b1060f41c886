//! The verdict of a run about the deployment, derived from the outcomes of its trials.

use jiff::civil::Date;

use super::finding;
use super::known::KnownFindings;
use super::model::{Outcome, RunReport, RunVerdict, TrialReport};

/// Folds the findings of an ended run, marks those that are known on `today`, and derives the
/// verdict.
pub fn conclude(report: &mut RunReport, known: Option<&KnownFindings>, today: Date) {
    report.findings = finding::fold(&mut report.trials);
    if let Some(known) = known {
        known.apply(report, today);
    }
    (report.verdict, report.because) = verdict(&report.trials, report.interrupted);
}

/// Number of trials by outcome.
#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    blocked: usize,
    accepted: usize,
    skipped: usize,
    invalid: usize,
    broken: usize,
    cut_off: usize,
}

impl Counts {
    fn of<'a>(trials: impl IntoIterator<Item = &'a TrialReport>) -> Self {
        let mut counts = Self::default();
        for trial in trials {
            let count = match &trial.outcome {
                Outcome::Passed => &mut counts.passed,
                Outcome::Failed { .. } | Outcome::Blocked { .. } if trial.record.accepted.is_some() => {
                    &mut counts.accepted
                }
                Outcome::Failed { .. } => &mut counts.failed,
                Outcome::Blocked { .. } => &mut counts.blocked,
                Outcome::Skipped { .. } => &mut counts.skipped,
                Outcome::Invalid { .. } => &mut counts.invalid,
                Outcome::Broken { .. } => &mut counts.broken,
                Outcome::Interrupted { .. } => &mut counts.cut_off,
            };
            *count += 1;
        }
        counts
    }

    fn total(&self) -> usize {
        let ran = self.passed + self.failed + self.blocked + self.accepted;
        ran + self.skipped + self.invalid + self.broken + self.cut_off
    }
}

/// Derives a run's verdict and its explanation from the outcomes of its trials. An empty,
/// interrupted or fully skipped run is never green.
pub fn verdict<'a>(
    trials_of_run: impl IntoIterator<Item = &'a TrialReport>,
    interrupted: bool,
) -> (RunVerdict, String) {
    let counts = Counts::of(trials_of_run);
    let total = counts.total();
    if counts.failed + counts.blocked > 0 {
        let blocked = match counts.blocked {
            0 => String::new(),
            count => format!(", {count} blocked"),
        };
        let because = format!("{} of {} failed{blocked}", counts.failed, trials(total));
        return (RunVerdict::NotQualified, because);
    }
    let inconclusive = |because: String| (RunVerdict::Inconclusive, because);
    if interrupted || counts.cut_off > 0 {
        return inconclusive(format!(
            "the run was interrupted after {} had passed",
            trials(counts.passed)
        ));
    }
    if counts.broken > 0 {
        return inconclusive(format!(
            "{} of {} could not be run: the environment is at fault",
            counts.broken,
            trials(total)
        ));
    }
    if counts.invalid > 0 {
        return inconclusive(format!(
            "{} of {} invalid: the fault did not take place",
            counts.invalid,
            trials(total)
        ));
    }
    if counts.passed + counts.accepted == 0 {
        return inconclusive(format!("no trial ran ({} skipped)", counts.skipped));
    }
    let skips = match counts.skipped {
        0 => String::new(),
        count => format!(", {count} skipped"),
    };
    let passed = trials(counts.passed);
    if counts.accepted > 0 {
        let accepted = counts.accepted;
        let because = format!("{passed} passed, {accepted} failed for known findings only{skips}");
        return (RunVerdict::QualifiedWithKnownFindings, because);
    }
    (RunVerdict::Qualified, format!("{passed} passed{skips}"))
}

/// Returns the number with its noun: `1 trial`, `2 trials`.
pub(crate) fn trials(count: usize) -> String {
    if count == 1 {
        "1 trial".to_owned()
    } else {
        format!("{count} trials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::samples::trial;

    fn verdict(outcomes: &[Outcome], interrupted: bool) -> (RunVerdict, String) {
        let trials: Vec<TrialReport> = outcomes
            .iter()
            .map(|outcome| trial("s", "a", "cluster", "rpm", outcome.clone()))
            .collect();
        super::verdict(&trials, interrupted)
    }

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

    #[test]
    fn blocked_trials_are_no_failures_and_no_passes() {
        let blocked = Outcome::Blocked {
            by: "x".into(),
            reason: "y".into(),
        };
        let (found, because) = verdict(&[Outcome::Passed, failed(), blocked.clone(), blocked], false);
        assert_eq!(
            (found, because.as_str()),
            (RunVerdict::NotQualified, "1 of 4 trials failed, 2 blocked")
        );
    }
}
