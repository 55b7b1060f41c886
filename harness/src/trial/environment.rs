//! What all trials of a run share.

use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;

use super::profile::{Deadlines, Profile};
use crate::cluster::Capabilities;
use crate::release::Chart;
use crate::report::EventSink;

/// The label that every namespace of a run carries, with the run's identifier as its value.
pub const RUN_LABEL: &str = "valkey-e2e/run";

/// What all trials of a run share.
#[derive(Clone)]
pub struct Environment {
    /// A client for the cluster.
    pub client: Client,
    /// What the cluster can do.
    pub capabilities: Capabilities,
    /// The run's identifier.
    pub run: String,
    /// The values to deploy.
    pub profile: Profile,
    /// How long each verb may take; the profile's, unless a test knows better.
    pub deadlines: Deadlines,
    /// The seed of everything random.
    pub seed: u64,
    /// Leave namespaces behind.
    pub keep: bool,
    /// Where evidence goes, a folder per trial.
    pub evidence: PathBuf,
    /// The chart on disk that is under test; without one it is our own manifests.
    pub chart: Option<Arc<Chart>>,
    /// Who is told what happens.
    pub events: EventSink,
}
