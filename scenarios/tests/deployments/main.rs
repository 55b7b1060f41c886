//! Deployments that must be judged rightly: broken ones, each for its own defect, and correct ones
//! that look unusual. All of them share one cluster.
//!
//! | module | what is in it |
//! |---|---|
//! | `registry` | every broken deployment; `breakage` has its types |
//! | `manifests`, `operations`, `parts` | the ways of a defect into our own manifests |
//! | `patched_chart` | copies of the example chart |
//! | `finding` | the finding that a broken deployment must yield |
//! | `broken` | runs the registry |
//! | `together` | charts with several defects |
//! | `correct` | charts that keep every promise, each in an unusual way |
//! | `secrets` | the search for passwords in everything that a run writes |
//!
//! Tests that need `helm` are ignored, with the reason, where it is missing.

mod breakage;
mod broken;
mod correct;
mod correct_charts;
mod finding;
mod manifests;
mod operations;
mod parts;
mod patched_chart;
mod registry;
mod secrets;
mod together;

use std::process::ExitCode;
use std::sync::Arc;

use harness::release::chart::Helm;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use scenarios::test_session::{SharedSession, THREADS};

/// The tests of this program.
struct Tests {
    shared: Arc<SharedSession>,
    helm: Result<Helm, String>,
    /// True if the tests are only listed. Nextest relies on the list. It counts a test as passed if
    /// the test is ignored only at run time.
    listing: bool,
    tests: Vec<Trial>,
}

impl Tests {
    /// Adds a test without a cluster.
    fn plain(&mut self, name: &str, test: fn() -> Result<(), Failed>) {
        self.tests.push(Trial::test(name, test));
    }

    /// Adds a test on the shared cluster.
    fn trial(
        &mut self,
        name: String,
        test: impl FnOnce(&SharedSession) -> Result<(), Failed> + Send + 'static,
    ) {
        let shared = self.shared.clone();
        self.tests.push(Trial::test(name, move || test(&shared)));
    }

    /// Adds a test on the shared cluster, of a chart that `helm` deploys.
    fn with_helm(
        &mut self,
        name: String,
        test: impl FnOnce(&SharedSession, &Helm) -> Result<(), Failed> + Send + 'static,
    ) {
        let (shared, helm) = (self.shared.clone(), self.helm.clone());
        let ignored = self.listing && helm.is_err();
        let test = Trial::ignorable_test(name, move || match &helm {
            Ok(helm) => test(&shared, helm).map(|()| Completion::Completed),
            Err(reason) => Ok(Completion::ignored_with(reason.clone())),
        });
        self.tests.push(test.with_ignored_flag(ignored));
    }
}

fn main() -> ExitCode {
    embedded_cluster::supervisor::reexec();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let shared = Arc::new(SharedSession::new(env!("CARGO_TARGET_TMPDIR")));
    let helm = shared
        .runtime()
        .block_on(Helm::find())
        .map_err(|error| error.to_string());
    let mut tests = Tests {
        shared: shared.clone(),
        helm,
        listing: arguments.list,
        tests: Vec::new(),
    };
    tests.plain(WITHOUT_HELM, without_helm_each_is_listed_as_ignored);
    broken::tests(&mut tests);
    correct::tests(&mut tests);
    together::tests(&mut tests);
    secrets::tests(&mut tests);
    let conclusion = libtest_mimic::run(&arguments, tests.tests);
    if let Some(shared) = Arc::into_inner(shared) {
        shared.finish();
    }
    conclusion.exit_code()
}

const WITHOUT_HELM: &str = "without_helm_each_is_listed_as_ignored";

fn without_helm_each_is_listed_as_ignored() -> Result<(), Failed> {
    let listed = std::process::Command::new(std::env::current_exe()?)
        .args(["--list", "--format", "terse", "--ignored"])
        .env("PATH", "")
        .output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let patches = registry::all().filter_map(|row| Some(format!("broken::{}::chart", row.patch?.0)));
    let mut names = patches.chain(correct::names());
    match names.find(|name| !listed.lines().any(|line| line == format!("{name}: test"))) {
        None => Ok(()),
        Some(name) => Err(format!("{name} is not listed as ignored: {listed:?}").into()),
    }
}
