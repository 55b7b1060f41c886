//! What all trials of a run share.

use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::placement::Placement;
use super::profile::{Deadlines, Profile};
use crate::cluster::Capabilities;
use crate::images::SeenImages;
use crate::release::Chart;
use crate::report::EventSink;
use crate::secret::RunSecrets;

/// The label that every namespace of a run carries, with the run's identifier as its value.
pub const RUN_LABEL: &str = "valkey-e2e/run";

/// The label selector for everything that the run `run` makes.
pub fn run_selector(run: &str) -> String {
    format!("{RUN_LABEL}={run}")
}

/// How many trials work at a time. Clones share it.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

/// A trial's turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Turns {
    /// So many at a time; at least one.
    pub fn new(jobs: usize) -> Self {
        Self(Arc::new(Semaphore::new(jobs.clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Waits for a turn. Whoever asked first gets the first.
    pub async fn take(&self) -> Turn {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        Turn {
            _permit: permit.expect("the semaphore is never closed"),
        }
    }
}

/// What all trials of a run share.
#[derive(Clone)]
pub struct Environment {
    /// A client for the cluster.
    pub client: Client,
    /// What the cluster can do.
    pub capabilities: Capabilities,
    /// The run's identifier.
    pub run: String,
    /// What the site asks of namespaces and values.
    pub placement: Placement,
    /// The values to deploy.
    pub profile: Profile,
    /// How long each verb may take; the profile's, unless a test knows better.
    pub deadlines: Deadlines,
    /// The seed of everything random.
    pub seed: u64,
    /// Which images were seen to run.
    pub images: SeenImages,
    /// Leave namespaces behind.
    pub keep: bool,
    /// Where evidence goes, a folder per trial.
    pub evidence: PathBuf,
    /// How many trials work at a time.
    pub turns: Turns,
    /// The chart on disk that is under test; without one it is our own manifests.
    pub chart: Option<Arc<Chart>>,
    /// Every secret that a trial of the run has come to know.
    pub secrets: RunSecrets,
    /// Who is told what happens.
    pub events: EventSink,
}
