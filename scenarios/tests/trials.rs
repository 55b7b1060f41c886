//! Every trial as a test, under `cargo test` and under `cargo nextest`.
//!
//! The cluster starts with the first trial that runs, and serves all trials of the process. `cargo
//! test` uses one cluster. nextest runs each trial in a separate process, with a separate cluster.
//! Users run the suite with `cargo xtask e2e`.

use std::process::ExitCode;
use std::sync::Arc;

use harness::report::Outcome;
use libtest_mimic::{Arguments, Completion, Failed};
use scenarios::registry::{self, Trial};
use scenarios::test_session::{SharedSession, THREADS};

fn main() -> ExitCode {
    embedded_cluster::supervisor::reexec();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let shared = Arc::new(SharedSession::new(env!("CARGO_TARGET_TMPDIR")));
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

fn test(trial: Trial, shared: &Arc<SharedSession>) -> libtest_mimic::Trial {
    let shared = shared.clone();
    libtest_mimic::Trial::ignorable_test(trial.id.to_string(), move || run(&shared, &trial))
}

fn run(shared: &SharedSession, trial: &Trial) -> Result<Completion, Failed> {
    let report = shared.run(trial, |_| {})?;
    match report.outcome {
        Outcome::Passed if report.cleanup.is_empty() => Ok(Completion::Completed),
        Outcome::Passed => Err(format!("not cleaned up: {}", report.cleanup.join("; ")).into()),
        Outcome::Skipped { reason } => Ok(Completion::ignored_with(reason)),
        Outcome::Failed { cause, message } => {
            let cause = cause
                .map(|cause| format!("most likely: {cause}\n"))
                .unwrap_or_default();
            Err(format!("{cause}{message}").into())
        }
        Outcome::Blocked { reason, .. }
        | Outcome::Invalid { reason }
        | Outcome::Broken { reason }
        | Outcome::Interrupted { reason } => Err(reason.into()),
    }
}
