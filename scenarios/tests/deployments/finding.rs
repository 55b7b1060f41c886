//! Findings that a broken deployment must yield.

use std::collections::BTreeSet;

use harness::report::{Outcome, TrialReport};
use libtest_mimic::Failed;

/// The required finding.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finding {
    /// The triage names the cause, and the sentence contains all of these texts.
    Cause(&'static [&'static str]),
    /// Exactly these checks find violations, and one violation contains this text.
    Checks(&'static [&'static str], &'static str),
    /// Exactly these checks find violations, and the triage names the cause.
    Because {
        /// The checks.
        checks: &'static [&'static str],
        /// Texts that the message contains.
        says: &'static [&'static str],
        /// Texts that the cause contains.
        cause: &'static [&'static str],
    },
    /// The message contains all of these texts.
    Says(&'static [&'static str]),
}

impl Finding {
    /// Returns an error unless the trial failed for the intended reason.
    pub(super) fn judge(self, report: &TrialReport) -> Result<(), Failed> {
        let Outcome::Failed { cause, message } = &report.outcome else {
            return Err(format!("must fail, and did not: {:?}", report.outcome).into());
        };
        let cause = cause.as_deref().unwrap_or_default();
        let checks_named = || checks_named(report);
        let problem = match self {
            Self::Cause(words) => lacking("cause", cause, words),
            Self::Says(words) => lacking("message", message, words),
            Self::Checks(expected, words) => {
                others(expected, &checks_named()).or_else(|| lacking("message", message, &[words]))
            }
            Self::Because {
                checks,
                says,
                cause: because,
            } => others(checks, &checks_named())
                .or_else(|| lacking("message", message, says))
                .or_else(|| lacking("cause", cause, because)),
        };
        problem.map_or(Ok(()), |problem| {
            Err(format!("{problem}\ncause: {cause}\nmessage: {message}").into())
        })
    }
}

fn others(expected: &[&str], found: &BTreeSet<&str>) -> Option<String> {
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    (*found != expected).then(|| format!("found by {found:?} instead of {expected:?}"))
}

fn lacking(what: &str, text: &str, words: &[&str]) -> Option<String> {
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    (!missing.is_empty()).then(|| format!("the {what} does not say {missing:?}"))
}

/// Returns the checks that found violations.
fn checks_named(report: &TrialReport) -> BTreeSet<&str> {
    let violations = report.record.violations.iter();
    violations.map(|violation| violation.check.as_str()).collect()
}
