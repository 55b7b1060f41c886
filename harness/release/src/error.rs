//! Reasons why a release's verb failed. The caller decides on the fault. An answer of the API
//! server is about the manifests; a broken connection is not.

use super::chart::ChartError;
use wait::WaitError;
use wait::terminal_state::TerminalState;

/// Reasons why a release's verb failed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Helm would not accept the manifest.
    #[error("manifest {what}")]
    Manifest {
        /// The object, and its problem.
        what: String,
        /// The cause, where there is one.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// The values cannot be rendered by our own manifests.
    #[error("the values cannot be rendered")]
    Render(#[source] Box<manifests::RenderError>),
    /// The values do not follow the README.
    #[error("the values cannot be read")]
    Values(#[source] Box<manifests::values::ValuesError>),
    /// The API server refused a request about an object.
    #[error("failed to {verb} {kind} {name}")]
    Api {
        /// The request.
        verb: &'static str,
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object to create already exists and belongs to something else.
    #[error("{kind} {name} exists already and belongs to something else")]
    Exists {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// An object is outside of the release's namespace, where a trial may change nothing.
    #[error("{kind} {name} is {place}, and the release may change nothing outside of its namespace")]
    Foreign {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// Where it would be.
        place: String,
    },
    /// A hook did not succeed.
    #[error("{event} hook {hook} failed{}{}", waiting(waits_for.as_ref()), lines(log))]
    Hook {
        /// The event that it ran on.
        event: &'static str,
        /// Its object's name.
        hook: String,
        /// The pod that it waits for, according to its last lines.
        waits_for: Option<String>,
        /// The last lines of its output.
        log: Vec<String>,
        /// The outcome of the wait.
        #[source]
        source: Box<WaitError>,
    },
    /// `helm` failed while a hook ran.
    #[error("{event} hook {hook} failed{}{}", waiting(waits_for.as_ref()), lines(log))]
    HelmHook {
        /// The event that it ran on.
        event: &'static str,
        /// Its object's name.
        hook: String,
        /// The pod that it waits for, according to its last lines.
        waits_for: Option<String>,
        /// The last lines of its output.
        log: Vec<String>,
        /// Helm's message.
        #[source]
        source: Box<ChartError>,
    },
    /// The chart or `helm` failed.
    #[error("the chart was not deployed")]
    Chart(#[source] Box<ChartError>),
    /// The chart renders no StatefulSet.
    #[error("the chart renders no StatefulSet, and so there is no server")]
    NoServers,
    /// No cluster can be formed of the rendered objects.
    #[error("no cluster can be formed: {0}")]
    Unformable(String),
    /// The release has no revision to go back to.
    #[error("revision {0} of the release is not known")]
    Revision(u32),
    /// A pod of the release, or a controller of its pods, is in a terminal state.
    #[error("{state}{}", lines(log))]
    Terminal {
        /// The terminal state, with its object.
        state: Box<TerminalState>,
        /// The last lines that the container printed.
        log: Vec<String>,
    },
    /// Something else did not happen in time.
    #[error("failed to {what}")]
    Wait {
        /// The action.
        what: String,
        /// The outcome of the wait.
        #[source]
        source: Box<WaitError>,
    },
}

impl ReleaseError {
    /// Returns true if the API server refused to change an immutable field. Recognises the message,
    /// as the answer has no specific reason code.
    pub fn is_of_a_fixed_field(&self) -> bool {
        let said = match self {
            Self::Chart(source) | Self::HelmHook { source, .. } => source.to_string(),
            Self::Api { source, .. } => source.to_string(),
            _ => return false,
        };
        [
            "updates to statefulset spec for fields other than",
            "field is immutable",
        ]
        .iter()
        .any(|words| said.contains(words))
    }

    /// Returns true if a chart's `values.schema.json` refused the values.
    pub fn is_of_the_schema(&self) -> bool {
        matches!(self, Self::Chart(source) if source.is_of_the_schema())
    }
}

fn waiting(pod: Option<&String>) -> String {
    pod.map(|pod| format!(" while it waited for {pod}"))
        .unwrap_or_default()
}

fn lines(log: &[String]) -> String {
    if log.is_empty() {
        return String::new();
    }
    format!("; its last output was:\n    {}", log.join("\n    "))
}
