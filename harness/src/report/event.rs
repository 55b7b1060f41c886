//! What the running code says while it runs. Reporters match every event by name, so that a new one makes the compiler
//! ask each of them what to do with it.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use super::model::{RunReport, TrialReport};
use crate::cluster::Provenance;

/// One thing that a run tells its reporters.
#[derive(Debug, Clone)]
pub enum Event {
    /// The selection is known; the cluster is about to start.
    RunStarted {
        /// The run's identifier.
        run: String,
        /// How many trials were selected.
        trials: usize,
        /// How many run at a time.
        jobs: usize,
        /// The profile's name.
        profile: String,
    },
    /// Something a person should know that is neither progress nor failure.
    Note {
        /// One sentence.
        text: String,
    },
    /// The cluster answers.
    ClusterReady {
        /// What it is.
        provenance: Box<Provenance>,
        /// How long it took to start.
        took: Duration,
    },
    /// A trial began.
    TrialStarted {
        /// Its name.
        trial: String,
    },
    /// A trial began a step.
    StepStarted {
        /// The trial's name.
        trial: String,
        /// The step's name.
        step: String,
    },
    /// A trial ended.
    TrialFinished {
        /// What came of it.
        report: Box<TrialReport>,
    },
    /// The user asked the run to stop.
    Interrupted,
    /// The run ended.
    RunFinished {
        /// All of it.
        report: Box<RunReport>,
        /// The folder with `report.json`.
        folder: PathBuf,
        /// How to reach what was kept, if anything was.
        kept: Option<String>,
    },
}

/// Consumes events. Implementations write to an injected writer, never straight to standard output.
pub trait Reporter: Send {
    /// Takes one event in. What cannot be written (a closed pipe) is given up silently: the run goes on.
    fn on(&mut self, event: &Event);
}

/// Where the running code sends its events. Clones send to the same reporters.
#[derive(Debug, Clone)]
pub struct EventSink(Option<mpsc::UnboundedSender<Event>>);

impl EventSink {
    /// A sink whose events reach every one of `reporters`, in order, on a thread of their own. The thread ends when the
    /// last clone of the sink is dropped; join it before the process exits.
    pub fn start(mut reporters: Vec<Box<dyn Reporter>>) -> (Self, JoinHandle<()>) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let thread = std::thread::spawn(move || {
            while let Some(event) = receiver.blocking_recv() {
                for reporter in &mut reporters {
                    reporter.on(&event);
                }
            }
        });
        (Self(Some(sender)), thread)
    }

    /// A sink that nobody listens to.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        if let Some(sender) = &self.0 {
            // A reporter thread that is gone has nobody to tell.
            let _ = sender.send(event);
        }
    }
}
