//! What the exit codes mean. The difference between 1 and 3 matters to a release manager: a broken machine must never read
//! as a broken chart, nor the other way round.

use std::process::ExitCode;

use ::manifests::ValuesError;
use harness::cluster::ClusterError;
use harness::release::ChartError;
use harness::report::{RunReport, RunVerdict};
use scenarios::selection::SelectionError;

/// Qualified, or done.
pub(crate) const QUALIFIED: u8 = 0;
/// A check failed.
pub(crate) const NOT_QUALIFIED: u8 = 1;
/// What was typed makes no sense. clap uses the same number.
pub(crate) const USAGE: u8 = 2;
/// The environment is at fault, or the run proves nothing.
pub(crate) const ENVIRONMENT: u8 = 3;
/// Ctrl-C: 128 + SIGINT, as shells expect.
pub(crate) const INTERRUPTED: u8 = 130;

/// What was typed cannot be done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// The code for an error that ended the command: what is not the user's to retype is the environment's, unless it is the
/// chart that is at fault.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    let retype = matches!(error.downcast_ref(), Some(ClusterError::NoSuchContext { .. }));
    let chart = error.downcast_ref::<ChartError>();
    let usage = retype
        || error.is::<UsageError>()
        || error.is::<SelectionError>()
        || error.is::<ValuesError>()
        || crate::report::is_usage(error)
        || matches!(chart, Some(ChartError::NotAChart { .. }));
    ExitCode::from(match chart {
        _ if usage => USAGE,
        Some(chart) if !chart.is_environment() => NOT_QUALIFIED,
        _ => ENVIRONMENT,
    })
}

/// The code for a run that came to its end, or was interrupted.
pub(crate) fn code_of_run(report: &RunReport) -> u8 {
    match (report.interrupted, report.verdict) {
        (true, _) => INTERRUPTED,
        (false, RunVerdict::Qualified) => QUALIFIED,
        (false, RunVerdict::NotQualified) => NOT_QUALIFIED,
        (false, RunVerdict::Inconclusive) => ENVIRONMENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_machine_is_told_from_a_broken_chart_and_from_a_typing_error() {
        let code = |error: anyhow::Error| format!("{:?}", code_of(&error));
        let expected = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(code(UsageError("x".to_owned()).into()), expected(USAGE));
        let machine = ClusterError::NotPermitted {
            detail: "x".to_owned(),
        };
        assert_eq!(code(machine.into()), expected(ENVIRONMENT));
        assert_eq!(code(ChartError::Missing.into()), expected(ENVIRONMENT));
        let (verb, said) = ("template".to_owned(), "parse error".to_owned());
        assert_eq!(
            code(ChartError::Refused { verb, said }.into()),
            expected(NOT_QUALIFIED)
        );
        let (folder, why) = ("/".into(), String::new());
        assert_eq!(
            code(ChartError::NotAChart { folder, why }.into()),
            expected(USAGE)
        );
        assert_eq!(
            code(std::io::Error::other("disk full").into()),
            expected(ENVIRONMENT)
        );
    }
}
