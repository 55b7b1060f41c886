//! Events from the running code. Reporters match every event by name, so that the compiler points
//! to each of them when an event is added.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use super::model::{RunReport, TrialReport};
use super::printable::printable;
use clusters::Provenance;

/// An event of a run for its reporters.
#[derive(Debug, Clone)]
pub enum Event {
    /// The selection is known; the cluster is about to start.
    RunStarted {
        /// The run's identifier.
        run: String,
        /// Number of trials that were selected.
        trials: usize,
        /// Number of trials that run at a time.
        jobs: usize,
        /// The profile's name.
        profile: String,
    },
    /// Information that is neither progress nor failure.
    Note {
        /// One sentence.
        text: String,
    },
    /// The cluster answers.
    ClusterReady {
        /// The cluster, and its images.
        provenance: Box<Provenance>,
        /// Time that it took to start.
        took: Duration,
    },
    /// A trial began.
    TrialStarted {
        /// The trial's name.
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
        /// The report of the trial.
        report: Box<TrialReport>,
    },
    /// The user asked the run to stop.
    Interrupted,
    /// The run ended.
    RunFinished {
        /// The report of the run.
        report: Box<RunReport>,
        /// The folder with `report.json`.
        folder: PathBuf,
        /// Command that gives access to what was kept, if anything was.
        kept: Option<String>,
    },
}

/// Consumes events. Implementations write to an injected writer, never straight to standard output.
pub trait Reporter: Send {
    /// Handles one event. Ignores write errors, such as a closed pipe: the run goes on.
    fn on(&mut self, event: &Event);
}

/// Sends the running code's events to the reporters. Clones send to the same reporters.
#[derive(Debug, Clone)]
pub struct EventSink(Option<mpsc::UnboundedSender<Event>>);

impl EventSink {
    /// Starts a thread that sends each event to all `reporters`, in order. The thread ends when the
    /// last clone of the sink is dropped. Join it before the process exits.
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

    /// Returns a sink without reporters.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        if let Some(sender) = &self.0 {
            let event = match event {
                // The text may contain output of a chart or a cluster.
                Event::Note { text } => Event::Note {
                    text: printable(&text).into_owned(),
                },
                other => other,
            };
            // After the reporter thread has ended, events are dropped.
            let _ = sender.send(event);
        }
    }
}
