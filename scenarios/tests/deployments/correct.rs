//! Other charts that keep every promise in their own way: copies of the example chart. A patch in
//! `testdata/correct` or values of a user change each copy. A trial that fails here is a false
//! alarm.
//!
//! Charts in `testdata/judged` have one defect. The responsible trial must find it, and no other
//! trial may fail.

use std::sync::Arc;

use ::manifests::conformance::cases;
use anyhow::Result;
use harness::release::chart::{Chart, Helm, UserValues};
use harness::report::Outcome;
use libtest_mimic::Failed;
use scenarios::test_session::SharedSession;
use scenarios::{conformance, registry};

use super::correct_charts::{CORRECT, Correct};
use super::{Tests, patched_chart};

/// The folders of patches.
const FOLDERS: [&str; 2] = ["correct", "judged"];

/// Adds a test for each chart.
pub(super) fn tests(tests: &mut Tests) {
    tests.plain("every_correct_patch_is_tested", every_patch_is_tested);
    for correct in CORRECT {
        tests.with_helm(test_name(&correct), move |shared, helm| {
            run(shared, helm, correct)
        });
    }
}

/// Returns the names of the tests that need `helm`.
pub(super) fn names() -> impl Iterator<Item = String> {
    CORRECT.iter().map(test_name)
}

fn test_name(correct: &Correct) -> String {
    format!("correct::{}", correct.name)
}

fn every_patch_is_tested() -> Result<(), Failed> {
    for folder in FOLDERS {
        for name in patched_chart::patches(folder).map_err(|error| format!("{error:#}"))? {
            if !CORRECT.iter().any(|correct| correct.patch == Some(&name)) {
                return Err(format!("testdata/{folder}/{name}.patch is used by no test").into());
            }
        }
    }
    Ok(())
}

fn run(shared: &SharedSession, helm: &Helm, correct: Correct) -> Result<(), Failed> {
    let copy =
        patched_chart::copy(&FOLDERS, correct.patch.as_slice()).map_err(|error| format!("{error:#}"))?;
    let mut user = match correct.file {
        "" => UserValues::default(),
        text => patched_chart::values_file(copy.path(), text)?,
    };
    user.set = correct.set.iter().map(|&set| set.to_owned()).collect();
    let opened = Chart::open(copy.path(), helm.clone(), user);
    let chart = Arc::new(
        shared
            .runtime()
            .block_on(opened)?
            .on_cluster(&shared.kubeconfig()?)?,
    );
    let mut alarms = Vec::new();
    if correct.parameters {
        alarms.extend(
            shared
                .runtime()
                .block_on(findings(&chart))
                .map_err(|error| format!("{error:#}"))?,
        );
    }
    let outcome = |name: &str| -> Result<Outcome, Failed> {
        let mut trials = registry::trials().into_iter().chain(registry::trials_of_charts());
        let trial = trials.find(|trial| trial.id.to_string() == name);
        let mut trial = trial.ok_or_else(|| format!("there is no trial {name}"))?;
        // Another test may run the same trial on its own chart at this moment. The namespace takes
        // the suite's name, so each test needs a different suite.
        trial.id.suite = correct.name;
        let report = shared.run(&trial, |environment| environment.subject = chart.clone())?;
        Ok(report.outcome)
    };
    for name in correct.passes {
        match outcome(name)? {
            Outcome::Passed => {}
            other => alarms.push(format!("\n{name}: {other:?}")),
        }
    }
    for (name, because) in correct.skips {
        match outcome(name)? {
            Outcome::Skipped { reason } if reason.contains(because) => {}
            other => alarms.push(format!("\n{name} must be skipped, as {because}: {other:?}")),
        }
    }
    for (name, says) in correct.finds {
        match outcome(name)? {
            Outcome::Failed { message, .. } if message.contains(says) => {}
            other => alarms.push(format!("\n{name} must say {says:?}: {other:?}")),
        }
    }
    if alarms.is_empty() {
        return Ok(());
    }
    Err(format!("not judged as it should be:{}", alarms.concat()).into())
}

/// Returns the differences between the chart and the table of parameters.
async fn findings(chart: &Chart) -> Result<Vec<String>> {
    let mut parameters: Vec<String> = cases().into_iter().map(|case| case.parameter).collect();
    parameters.dedup();
    let mut findings = Vec::new();
    for parameter in parameters {
        findings.extend(conformance::findings(chart, &parameter).await?);
    }
    Ok(findings)
}
