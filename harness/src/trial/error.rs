//! Errors of a scenario's acts.

use std::fmt;
use std::time::Duration;

use super::terminal_servers::LastingState;
use crate::checks::Violation;
use crate::release::ReleaseError;
use crate::valkey::ledger::RecordFileError;
use crate::wait::WaitError;

/// The reason why an act of a scenario failed.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The chart refuses the values.
    #[error("the values cannot be rendered")]
    Render(#[source] Box<manifests::RenderError>),
    /// A verb of the release failed.
    #[error(transparent)]
    Release(ReleaseError),
    /// A wait ended without success.
    #[error(transparent)]
    Wait(Box<WaitError>),
    /// Promises are broken, and stayed broken until the deadline.
    #[error("{} {when}:{}", counted(violations), list(violations))]
    Unhealthy {
        /// The time at which the promises were broken.
        when: When,
        /// Every promise that was broken in the last observation.
        violations: Vec<Violation>,
    },
    /// A pod's Valkey stopped answering.
    #[error("failed to get an answer from the server of pod {pod}")]
    Answer {
        /// The pod.
        pod: String,
        /// The cause.
        #[source]
        source: redis::RedisError,
    },
    /// The scenario's act did not take place. This is neither a pass nor a failure.
    #[error("the fault did not take place: {0}")]
    Invalid(String),
    /// The record of writes cannot be kept on this machine.
    #[error("failed to record the writes")]
    RecordFile(#[from] RecordFileError),
    /// The record of writes failed while the writers ran.
    #[error("failed to record the writes: {0}")]
    Unrecorded(String),
    /// The run's client pod does not work. This says nothing about the deployment.
    #[error("client connections could not be tested: {0}")]
    Client(String),
    /// The scenario verifies data that it has not written.
    #[error("nothing is written yet")]
    NoData,
    /// The scenario cannot judge this subject.
    #[error("{0}")]
    NotJudged(String),
    /// The scenario acts on a release that it has not installed.
    #[error("nothing is installed yet")]
    NotInstalled,
    /// The API server refused a request.
    #[error("failed to {what}")]
    Api {
        /// The action.
        what: String,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// A pod's Valkey refuses the connection.
    #[error("failed to connect to the server of pod {pod}")]
    Connect {
        /// The pod.
        pod: String,
        /// The cause.
        #[source]
        source: crate::valkey::ConnectError,
    },
}

/// The time at which promises were broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In a single observation.
    Now,
    /// At some moment of the trial, which went on.
    DuringTheTrial,
    /// Still at the end of this time.
    Within(Duration),
    /// While the servers stayed in a terminal state, for this time.
    Lasting(LastingState, Duration),
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => write!(f, "failing now"),
            Self::DuringTheTrial => write!(f, "failed during the trial"),
            Self::Within(time) => write!(f, "still failing after {} s", time.as_secs()),
            Self::Lasting(state, time) => write!(f, "failing, and {state} for {} s", time.as_secs()),
        }
    }
}

impl From<WaitError> for TrialError {
    fn from(error: WaitError) -> Self {
        Self::Wait(Box::new(error))
    }
}

impl From<ReleaseError> for TrialError {
    /// Converts the error. A chart is not judged if the cluster does not serve its objects. Nor is
    /// a chart that lacks the feature under trial.
    fn from(error: ReleaseError) -> Self {
        let error = match error {
            ReleaseError::Render(source) => return Self::Render(source),
            other => other,
        };
        let not_judged = match &error {
            ReleaseError::Chart(source) => source.not_judged(),
            _ => None,
        };
        not_judged.map_or(Self::Release(error), Self::NotJudged)
    }
}

impl From<manifests::RenderError> for TrialError {
    fn from(error: manifests::RenderError) -> Self {
        Self::Render(Box::new(error))
    }
}

impl TrialError {
    /// Makes the error for promises that are broken now.
    pub fn unhealthy(violations: Vec<Violation>) -> Self {
        Self::Unhealthy {
            when: When::Now,
            violations,
        }
    }

    /// Returns success if there are no violations.
    pub fn unless_kept(violations: Vec<Violation>) -> Result<(), Self> {
        if violations.is_empty() {
            return Ok(());
        }
        Err(Self::unhealthy(violations))
    }

    /// Makes the error for a failed request to the API server.
    pub fn api(what: impl Into<String>, source: kube::Error) -> Self {
        Self::Api {
            what: what.into(),
            source: Box::new(source),
        }
    }
}

fn counted(violations: &[Violation]) -> String {
    match violations.len() {
        1 => "1 check".to_owned(),
        many => format!("{many} checks"),
    }
}

fn list(violations: &[Violation]) -> String {
    violations
        .iter()
        .map(|violation| format!("\n  - {violation}"))
        .collect()
}

/// Returns the error's text with those of its causes.
pub fn format_error(error: &anyhow::Error) -> String {
    error_text::chain(error.as_ref())
}
