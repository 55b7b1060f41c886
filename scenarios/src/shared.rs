//! One session for all tests of a process: it starts with the first test that needs it, and ends with the process.

use std::path::PathBuf;
use std::sync::OnceLock;

use harness::images::ImageSource;
use harness::report::{EventSink, TrialReport};
use harness::trial::{Environment, Placement, Profile, run};
use kube::config::Kubeconfig;
use tokio::runtime::Runtime;

use crate::registry::Trial;
use crate::runner;
use crate::session::{ClusterChoice, Session, SessionOptions, new_run_id};

/// How many trials work at a time unless told otherwise: they wait for servers most of the time.
pub const THREADS: usize = 4;

/// The stack of a trial: that of a process's first thread, on which `xtask e2e` runs them. An unoptimised scenario needs
/// more than the two megabytes of other threads.
const STACK: usize = 8 * 1024 * 1024;

/// The runtime and the session that the tests of this process share.
pub struct SharedSession {
    runtime: Runtime,
    folder: PathBuf,
    session: OnceLock<Result<Session, String>>,
}

impl SharedSession {
    /// A session that has not started yet. Evidence of failures goes below `folder`.
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

    /// Runs one trial in the session's environment, changed by `adapt`. An error means that there is no session.
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
        Ok(report.expect("a trial's panic is caught and told in its report"))
    }

    /// How to reach the cluster that the tests share. An error means that there is none.
    pub fn kubeconfig(&self) -> Result<Kubeconfig, String> {
        let session = self.session.get_or_init(|| self.start()).as_ref();
        session
            .map(|session| session.cluster().facts().kubeconfig.clone())
            .map_err(Clone::clone)
    }

    /// What the tests run on, for what they do before a trial.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Ends the session, if it ever started.
    pub fn finish(self) {
        let Some(Ok(session)) = self.session.into_inner() else {
            return;
        };
        if let Err(error) = self.runtime.block_on(session.finish()) {
            eprintln!("warning: {}", run::format_error(&error.into()));
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
        started.map_err(|error| run::format_error(&error.into()))
    }
}
