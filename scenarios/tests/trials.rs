//! Every trial as a test, under `cargo test` and under `cargo nextest`.
//!
//! The cluster starts with the first trial that runs and serves all trials of the process: one cluster for `cargo test`, and
//! one per trial for nextest, which runs each in a process of its own. The suite as a person runs it is `cargo xtask e2e`.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use harness::images::ImageSource;
use harness::report::{EventSink, Outcome};
use harness::trial::Profile;
use libtest_mimic::{Arguments, Completion, Failed};
use scenarios::registry::{self, Trial};
use scenarios::runner;
use scenarios::session::{Session, SessionOptions, new_run_id};
use tokio::runtime::Runtime;

/// How many trials run at a time unless told otherwise: they wait for servers most of the time.
const THREADS: usize = 4;

fn main() -> ExitCode {
    embedded_cluster::supervisor::reexec();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let shared = Arc::new(Shared::new());
    let tests = registry::trials()
        .into_iter()
        .map(|trial| test(trial, &shared))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, tests);
    if let Some(shared) = Arc::into_inner(shared) {
        shared.finish();
    }
    conclusion.exit_code()
}

fn test(trial: Trial, shared: &Arc<Shared>) -> libtest_mimic::Trial {
    let shared = shared.clone();
    libtest_mimic::Trial::ignorable_test(trial.id.to_string(), move || shared.run(&trial))
}

/// The runtime and the session that the trials of this process share.
struct Shared {
    runtime: Runtime,
    session: OnceLock<Result<Session, String>>,
}

impl Shared {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a tokio runtime can be made");
        Self {
            runtime,
            session: OnceLock::new(),
        }
    }

    fn run(&self, trial: &Trial) -> Result<Completion, Failed> {
        let session = self
            .session
            .get_or_init(|| self.start())
            .as_ref()
            .map_err(Failed::from)?;
        let report = self
            .runtime
            .block_on(runner::run_one(trial, &session.environment));
        let evidence = session.environment.evidence.join(trial.id.folder());
        match report.outcome {
            Outcome::Passed if report.cleanup.is_empty() => Ok(Completion::Completed),
            Outcome::Passed => Err(format!("not cleaned up: {}", report.cleanup.join("; ")).into()),
            Outcome::Skipped { reason } => Ok(Completion::ignored_with(reason)),
            Outcome::Failed { cause, message } => {
                let cause = cause
                    .map(|cause| format!("most likely: {cause}\n"))
                    .unwrap_or_default();
                Err(format!("{cause}{message}\nevidence: {}", evidence.display()).into())
            }
            Outcome::Invalid { reason } | Outcome::Broken { reason } => Err(reason.into()),
        }
    }

    fn start(&self) -> Result<Session, String> {
        let run = new_run_id();
        let options = SessionOptions {
            evidence: std::env::temp_dir().join(&run),
            run,
            image_source: ImageSource::Auto,
            profile: Profile::Fast,
            seed: 0,
            keep: false,
        };
        let started = self
            .runtime
            .block_on(Session::start(options, EventSink::silent()));
        started.map_err(|error| harness::trial::run::format_error(&error.into()))
    }

    fn finish(self) {
        let Some(Ok(session)) = self.session.into_inner() else {
            return;
        };
        if let Err(error) = self.runtime.block_on(session.finish()) {
            eprintln!("warning: {error}");
        }
    }
}
