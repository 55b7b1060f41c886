//! Why a release's verb failed. Whether that is the chart's or the environment's fault is for the caller to tell: an
//! answer of the API server is about the manifests, a broken connection is not.

use super::chart::ChartError;
use crate::wait::WaitError;

/// Why a release's verb failed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A manifest is not something that Helm would take.
    #[error("manifest {what}")]
    Manifest {
        /// Which one, and what is wrong with it.
        what: String,
        /// The cause, where there is one.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// The API server refused a request about an object.
    #[error("the API server did not {verb} {kind} {name}")]
    Api {
        /// What was asked.
        verb: &'static str,
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object that is to be created exists and is not this release's.
    #[error("{kind} {name} exists already and belongs to something else")]
    Exists {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// An object would be outside of the release's namespace, where nothing may be changed.
    #[error("{kind} {name} is {place}, and the release may change nothing outside of its own namespace")]
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
        /// When it ran.
        event: &'static str,
        /// Its object's name.
        hook: String,
        /// The pod that its last words say it waits for, if they do.
        waits_for: Option<String>,
        /// The last lines that it printed.
        log: Vec<String>,
        /// How its wait ended.
        #[source]
        source: Box<WaitError>,
    },
    /// `helm` failed while a hook ran.
    #[error("{event} hook {hook} failed{}{}", waiting(waits_for.as_ref()), lines(log))]
    HelmHook {
        /// When it ran.
        event: &'static str,
        /// Its object's name.
        hook: String,
        /// The pod that its last words say it waits for, if they do.
        waits_for: Option<String>,
        /// The last lines that it printed.
        log: Vec<String>,
        /// What `helm` said.
        #[source]
        source: Box<ChartError>,
    },
    /// The chart, or `helm`, did not do what was asked.
    #[error("the chart was not deployed")]
    Chart(#[source] Box<ChartError>),
    /// The chart renders no StatefulSet.
    #[error("the chart renders no StatefulSet, and so there is no server")]
    NoServers,
    /// What is rendered is such that no cluster can be formed.
    #[error("no cluster can be formed: {0}")]
    Unformable(String),
    /// The release has no revision to go back to.
    #[error("revision {0} of the release is not known")]
    Revision(u32),
    /// A pod of the release got into a state that does not heal.
    #[error("{reason}{}", lines(log))]
    PodDoomed {
        /// Which pod and container, and which state.
        reason: String,
        /// The last lines that the container printed.
        log: Vec<String>,
    },
    /// Something else did not come about in time.
    #[error("failed to {what}")]
    Wait {
        /// What was attempted.
        what: String,
        /// How the wait ended.
        #[source]
        source: Box<WaitError>,
    },
}

fn waiting(pod: Option<&String>) -> String {
    pod.map(|pod| format!(" while it waited for {pod}"))
        .unwrap_or_default()
}

fn lines(log: &[String]) -> String {
    if log.is_empty() {
        return String::new();
    }
    format!("; its last words were:\n    {}", log.join("\n    "))
}
