//! What must be found of a deployment that is broken on purpose.

use std::collections::BTreeSet;

use libtest_mimic::Failed;

/// What must be found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finding {
    /// The triage names the cause, in a sentence with all of these in it.
    Cause(&'static [&'static str]),
    /// These checks and no others find violations, one of which has this in it.
    Checks(&'static [&'static str], &'static str),
    /// The same, and the triage names the cause.
    #[allow(dead_code, reason = "not every test of this folder looks for one")]
    Because {
        /// The checks, and no others.
        checks: &'static [&'static str],
        /// All of this is in the message.
        says: &'static [&'static str],
        /// All of this is in the cause.
        cause: &'static [&'static str],
    },
    /// The message says all of these.
    #[allow(dead_code, reason = "not every test of this folder looks for one")]
    Says(&'static [&'static str]),
}

impl Finding {
    /// Whether a failure was found for the reason that it was made for.
    pub(super) fn judge(self, cause: &str, message: &str) -> Result<(), Failed> {
        let problem = match self {
            Self::Cause(words) => lacking("cause", cause, words),
            Self::Says(words) => lacking("message", message, words),
            Self::Checks(expected, words) => {
                others(expected, message).or_else(|| lacking("message", message, &[words]))
            }
            Self::Because {
                checks,
                says,
                cause: because,
            } => others(checks, message)
                .or_else(|| lacking("message", message, says))
                .or_else(|| lacking("cause", cause, because)),
        };
        problem.map_or(Ok(()), |problem| {
            Err(format!("{problem}\ncause: {cause}\nmessage: {message}").into())
        })
    }
}

fn others(expected: &[&str], message: &str) -> Option<String> {
    let found = checks_named(message);
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    (found != expected).then(|| format!("found by {found:?} instead of {expected:?}"))
}

fn lacking(what: &str, text: &str, words: &[&str]) -> Option<String> {
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    (!missing.is_empty()).then(|| format!("the {what} does not say {missing:?}"))
}

/// The checks whose violations the message lists, each on a line `  - CHECK: …`.
fn checks_named(message: &str) -> BTreeSet<&str> {
    message
        .lines()
        .filter_map(|line| line.strip_prefix("  - ")?.split(':').next())
        .collect()
}
