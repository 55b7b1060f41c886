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

use super::{Tests, patched_chart};

/// The folders of patches.
const FOLDERS: [&str; 2] = ["correct", "judged"];

/// A chart, values for the chart, and the expected outcomes.
#[derive(Clone, Copy)]
struct Correct {
    /// The test's name.
    name: &'static str,
    /// The patch's name, if a patch changes the example chart.
    patch: Option<&'static str>,
    /// The values file of the user, if there is one.
    file: &'static str,
    /// The settings of the user.
    set: &'static [&'static str],
    /// True if every parameter is checked against the table.
    parameters: bool,
    /// Trials that must pass.
    passes: &'static [&'static str],
    /// Trials that must be skipped, with a part of the reason.
    skips: &'static [(&'static str, &'static str)],
    /// Trials that must fail, with a part of the message.
    finds: &'static [(&'static str, &'static str)],
}

const EXAMPLE: Correct = Correct {
    name: "",
    patch: None,
    file: "",
    set: &[],
    parameters: false,
    passes: &[],
    skips: &[],
    finds: &[],
};

const fn patched(patch: &'static str, passes: &'static [&'static str]) -> Correct {
    Correct {
        name: patch,
        patch: Some(patch),
        parameters: true,
        passes,
        ..EXAMPLE
    }
}

const CORRECT: [Correct; 21] = [
    patched("defaults-left-out", &["formation::forms::standalone-rpm"]),
    patched("defaults-spelled-out", &["formation::forms::cluster-rpm"]),
    patched("masterauth-as-argument", &["formation::forms::cluster-hardened"]),
    patched(
        "secret-as-string-data",
        &["rotation::generated_password_survives_an_upgrade::standalone-rpm"],
    ),
    patched(
        "silent-tools",
        &[
            "connection::helm_test_pod_passes::standalone-rpm",
            "scaling::a_step_that_is_not_a_multiple::cluster-rpm",
        ],
    ),
    Correct {
        parameters: false,
        ..patched("heartbeat-writer", &["persistence::full_restart::cluster-rpm"])
    },
    patched("labels-on-claims", &["formation::forms::standalone-rpm"]),
    patched("own-volume-names", &["formation::forms::standalone-hardened"]),
    patched(
        "restarts-on-new-password",
        &["rotation::by_restart::standalone-rpm"],
    ),
    patched("no-rbac", &["upgrades::from_another_version::standalone-rpm"]),
    patched(
        "strict-schema",
        &[
            "formation::forms::cluster-rpm",
            "rotation::existing_secret::standalone-rpm",
        ],
    ),
    Correct {
        parameters: false,
        ..patched(
            "no-draining",
            &["scaling::there_and_back_again::cluster-hardened"],
        )
    },
    patched(
        "other-defaults",
        &[
            "formation::forms::standalone-rpm",
            "formation::forms::cluster-rpm",
        ],
    ),
    Correct {
        parameters: false,
        finds: &[(
            "rotation::by_restart::standalone-rpm",
            "gone at once, without a grace period",
        )],
        ..patched("no-grace-period", &["formation::forms::standalone-rpm"])
    },
    Correct {
        parameters: false,
        finds: &[(
            "upgrades::from_another_version::standalone-rpm",
            "spec.volumeClaimTemplates[0].metadata.labels.helm.sh/chart",
        )],
        ..patched("version-on-claims", &["formation::forms::standalone-rpm"])
    },
    Correct {
        parameters: false,
        skips: &[(
            "rotation::generated_password_survives_an_upgrade::standalone-rpm",
            "the chart does not accept podAnnotations",
        )],
        finds: &[(
            "conformance::parameter::podAnnotations::standalone-rpm",
            "the chart does not accept it",
        )],
        ..patched("parameters-dropped", &["formation::forms::standalone-rpm"])
    },
    Correct {
        name: "without-authentication",
        set: &["auth.enabled=false"],
        passes: &[
            "connection::password_is_required::standalone-rpm",
            "connection::set_and_get_every_slot::cluster-rpm",
            "security::container_runs_as_declared::standalone-hardened",
        ],
        skips: &[("rotation::by_restart::standalone-rpm", "auth.enabled is false")],
        ..EXAMPLE
    },
    Correct {
        name: "without-volumes",
        set: &["persistence.enabled=false"],
        passes: &["formation::forms::standalone-rpm"],
        skips: &[(
            "persistence::full_restart::standalone-rpm",
            "persistence.enabled is false",
        )],
        ..EXAMPLE
    },
    Correct {
        name: "own-directives-and-secret",
        set: &[
            "config.customConfig=masterauth something",
            "auth.existingSecret=of-the-user",
            "mode=standalone",
        ],
        passes: &["connection::set_and_get_every_slot::standalone-rpm"],
        skips: &[("formation::forms::cluster-rpm", "set mode to standalone")],
        ..EXAMPLE
    },
    Correct {
        name: "number-in-a-values-file",
        file: "config: {maxmemory: 268435456}",
        passes: &["formation::forms::standalone-rpm"],
        ..EXAMPLE
    },
    Correct {
        name: "group-of-the-image",
        set: &["securityContext.runAsGroup=null"],
        passes: &["security::container_runs_as_declared::standalone-rpm"],
        ..EXAMPLE
    },
];

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
