//! Why an act of a scenario did not succeed.

use crate::checks::Violation;
use crate::release::ReleaseError;
use crate::valkey::ledger::JournalError;
use crate::wait::WaitError;

/// Why an act of a scenario did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The chart refuses the values.
    #[error("the values cannot be rendered")]
    Render(#[source] Box<manifests::RenderError>),
    /// A verb of the release failed.
    #[error(transparent)]
    Release(ReleaseError),
    /// Something did not come about in time.
    #[error(transparent)]
    Wait(Box<WaitError>),
    /// Promises are broken, and stayed broken until the deadline.
    #[error("{} not hold {waited}:{}", counted(violations), list(violations))]
    Unhealthy {
        /// For how long they were waited for.
        waited: String,
        /// Every one that was broken when it was last looked.
        violations: Vec<Violation>,
    },
    /// A pod's Valkey stopped answering.
    #[error("failed to have an answer from the server of pod {pod}")]
    Answer {
        /// The pod.
        pod: String,
        /// The cause.
        #[source]
        source: redis::RedisError,
    },
    /// What the scenario does to the deployment did not take place. Neither a pass nor a failure.
    #[error("the fault did not take place: {0}")]
    Invalid(String),
    /// The record of what was written cannot be kept on this machine.
    #[error("the record of what was written cannot be kept")]
    Journal(#[from] JournalError),
    /// The same, noticed while it was being written.
    #[error("the record of what was written could not be kept: {0}")]
    Unrecorded(String),
    /// The scenario accounts for data that it has not written.
    #[error("nothing is written yet")]
    NoData,
    /// What is under test is such that the scenario cannot judge it.
    #[error("{0}")]
    NotJudged(String),
    /// The scenario acts on a release that it has not installed.
    #[error("nothing is installed yet")]
    NotInstalled,
    /// The API server refused a request.
    #[error("failed to {what}")]
    Api {
        /// What was attempted.
        what: String,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// A pod's Valkey does not let us in.
    #[error("failed to connect to the server of pod {pod}")]
    Connect {
        /// The pod.
        pod: String,
        /// The cause.
        #[source]
        source: crate::valkey::ConnectError,
    },
}

impl From<WaitError> for TrialError {
    fn from(error: WaitError) -> Self {
        Self::Wait(Box::new(error))
    }
}

impl From<ReleaseError> for TrialError {
    /// A chart may have objects that this cluster does not serve: it is not judged here.
    fn from(error: ReleaseError) -> Self {
        let not_served = match &error {
            ReleaseError::Chart(source) => source.not_served(),
            _ => None,
        };
        not_served.map_or(Self::Release(error), |what| {
            Self::NotJudged(format!("the chart has {what}, which this cluster does not serve"))
        })
    }
}

impl From<manifests::RenderError> for TrialError {
    fn from(error: manifests::RenderError) -> Self {
        Self::Render(Box::new(error))
    }
}

impl TrialError {
    /// Promises that do not hold at this moment.
    pub fn unhealthy(violations: Vec<Violation>) -> Self {
        Self::Unhealthy {
            waited: "now".to_owned(),
            violations,
        }
    }

    /// Success if there are no violations.
    pub fn unless_kept(violations: Vec<Violation>) -> Result<(), Self> {
        if violations.is_empty() {
            return Ok(());
        }
        Err(Self::unhealthy(violations))
    }

    /// The error of a request to the API server.
    pub fn api(what: impl Into<String>, source: kube::Error) -> Self {
        Self::Api {
            what: what.into(),
            source: Box::new(source),
        }
    }
}

fn counted(violations: &[Violation]) -> String {
    match violations.len() {
        1 => "1 of the promises does".to_owned(),
        many => format!("{many} of the promises do"),
    }
}

fn list(violations: &[Violation]) -> String {
    violations
        .iter()
        .map(|violation| format!("\n  - {violation}"))
        .collect()
}
