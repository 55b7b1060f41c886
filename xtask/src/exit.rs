//! Exit codes and their meanings. The difference between 1 and 3 matters to a release manager. A
//! broken machine must never read as a broken chart, nor the reverse.

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
/// An invalid command line. clap uses the same code.
pub(crate) const USAGE: u8 = 2;
/// The environment is at fault, or the run proves nothing.
pub(crate) const ENVIRONMENT: u8 = 3;
/// Ctrl-C: 128 + SIGINT, as shells expect.
pub(crate) const INTERRUPTED: u8 = 130;

/// A command with invalid arguments.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// Returns the code for an error that ended the command. An error that is neither the user's typing
/// nor the chart's is the environment's.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    let retype = matches!(error.downcast_ref(), Some(ClusterError::NoSuchContext { .. }));
    let chart = error.downcast_ref::<ChartError>();
    let usage = retype
        || error.is::<UsageError>()
        || error.is::<SelectionError>()
        || error.is::<ValuesError>()
        || crate::report::is_usage(error)
        || matches!(
            chart,
            Some(ChartError::NotAChart { .. } | ChartError::Values { .. })
        );
    ExitCode::from(match chart {
        _ if usage => USAGE,
        Some(chart) if !chart.is_environment() => NOT_QUALIFIED,
        _ => ENVIRONMENT,
    })
}

/// Returns the code for a run that ended or was interrupted.
pub(crate) fn code_of_run(report: &RunReport) -> u8 {
    match (report.interrupted, report.verdict) {
        (true, _) => INTERRUPTED,
        (false, RunVerdict::Qualified | RunVerdict::QualifiedWithKnownFindings) => QUALIFIED,
        (false, RunVerdict::NotQualified) => NOT_QUALIFIED,
        (false, RunVerdict::Inconclusive) => ENVIRONMENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_a_machine_a_chart_and_a_typing_error_apart() {
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
        let (path, why) = ("/".into(), String::new());
        assert_eq!(code(ChartError::NotAChart { path, why }.into()), expected(USAGE));
        assert_eq!(
            code(std::io::Error::other("disk full").into()),
            expected(ENVIRONMENT)
        );
    }
}
