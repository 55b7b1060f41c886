//! One session for all tests of a process. The session starts with the first test that needs it,
//! and ends with the process.

use std::path::PathBuf;
use std::sync::OnceLock;

use harness::images::ImageSource;
use harness::report::{EventSink, TrialReport};
use harness::settings::{Placement, Profile};
use harness::trial::{Environment, format_error};
use kube::config::Kubeconfig;
use tokio::runtime::Runtime;

use crate::registry::Trial;
use crate::runner;
use crate::session::{ClusterChoice, Session, SessionOptions, new_run_id};

/// Number of trials that run at a time by default. Trials wait for servers most of the time.
pub const THREADS: usize = 4;

/// Stack size of a trial, and of a process's first thread, on which `xtask e2e` runs trials.
/// An unoptimised scenario needs more than the two megabytes of other threads.
const STACK: usize = 8 * 1024 * 1024;

/// The runtime and the session that the tests of this process share.
pub struct SharedSession {
    runtime: Runtime,
    folder: PathBuf,
    session: OnceLock<Result<Session, String>>,
}

impl SharedSession {
    /// Returns a session that has not started yet. Evidence of failures goes below `folder`.
    ///
    /// # Panics
    /// When the operating system does not give this process its threads.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let runtime = Runtime::new().expect("a process that cannot have threads cannot run tests");
        Self {
            runtime,
            folder: folder.into(),
            session: OnceLock::new(),
        }
    }

    /// Runs one trial in the session's environment, changed by `adapt`. An error means that the
    /// session did not start.
    pub fn run(&self, trial: &Trial, adapt: impl FnOnce(&mut Environment)) -> Result<TrialReport, String> {
        let session = self
            .session
            .get_or_init(|| self.start())
            .as_ref()
            .map_err(Clone::clone)?;
        let mut environment = session.environment.clone();
        adapt(&mut environment);
        let run = || self.runtime.block_on(runner::run_one(trial, &environment));
        let report = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            let thread = thread.spawn_scoped(scope, run);
            let thread = thread.expect("a process that cannot have threads cannot run tests");
            thread.join()
        });
        Ok(report.expect("a trial's panic is caught and reported"))
    }

    /// Returns the kubeconfig of the shared cluster. An error means that the session did not start.
    pub fn kubeconfig(&self) -> Result<Kubeconfig, String> {
        let session = self.session.get_or_init(|| self.start()).as_ref();
        session
            .map(|session| session.cluster().facts().kubeconfig.clone())
            .map_err(Clone::clone)
    }

    /// Returns the runtime of the tests, for their work before a trial.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Ends the session, if it ever started.
    pub fn finish(self) {
        let Some(Ok(session)) = self.session.into_inner() else {
            return;
        };
        if let Err(error) = self.runtime.block_on(session.finish()) {
            eprintln!("warning: {}", format_error(&error.into()));
        }
    }

    fn start(&self) -> Result<Session, String> {
        let run = new_run_id();
        let options = SessionOptions {
            cluster: ClusterChoice::Embedded,
            namespaces: Vec::new(),
            placement: Placement::default(),
            evidence: self.folder.join(&run),
            run,
            image_source: ImageSource::Auto,
            profile: Profile::Fast,
            seed: 0,
            jobs: THREADS,
            keep: false,
            chart: None,
        };
        let started = self
            .runtime
            .block_on(Session::start(options, EventSink::silent()));
        started.map_err(|error| format_error(&error.into()))
    }
}
