//! The environment that all trials of a run share.

use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client::ClientPod;
use super::halt::Halt;
use crate::cluster::Capabilities;
use crate::images::SeenImages;
use crate::release::Subject;
use crate::report::EventSink;
use crate::secret::RunSecrets;
use crate::settings::{Deadlines, Placement, Profile};

/// Number of trials that work at a time. Clones share the limit.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

/// A trial's turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Turns {
    /// Allows `jobs` trials at a time, and at least one.
    pub fn new(jobs: usize) -> Self {
        Self(Arc::new(Semaphore::new(jobs.clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Waits for a turn. Turns are given in the order of the requests.
    pub async fn take(&self) -> Turn {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        Turn {
            _permit: permit.expect("the semaphore is never closed"),
        }
    }
}

/// The environment that all trials of a run share.
#[derive(Clone)]
pub struct Environment {
    /// A client for the cluster.
    pub client: Client,
    /// The capabilities of the cluster.
    pub capabilities: Capabilities,
    /// The run's identifier.
    pub run: String,
    /// The site's demands on namespaces and values.
    pub placement: Placement,
    /// The values to deploy.
    pub profile: Profile,
    /// Time that each verb may take. The profile sets it, unless a test overrides it.
    pub deadlines: Deadlines,
    /// The seed of everything random.
    pub seed: u64,
    /// Images that the run has seen running.
    pub images: SeenImages,
    /// True if namespaces are kept after their trials.
    pub keep: bool,
    /// True if the cluster outlives the run. An interrupted trial must then remove its namespace.
    pub borrowed: bool,
    /// Ends the run before its trials end.
    pub halt: Halt,
    /// The folder for evidence, with a folder per trial.
    pub evidence: PathBuf,
    /// Number of trials that work at a time.
    pub turns: Turns,
    /// The subject under test.
    pub subject: Arc<dyn Subject>,
    /// Every secret that a trial of the run knows.
    pub secrets: RunSecrets,
    /// The pod in which the clients of every trial run. Without a pod, no client checks run.
    pub client_pod: Option<ClientPod>,
    /// The receiver of events.
    pub events: EventSink,
}
