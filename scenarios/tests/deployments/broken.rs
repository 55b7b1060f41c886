//! Runs the registry of broken deployments. Each must fail for its own defect: a suite that passes
//! everything proves nothing. No trial may wait for a state that cannot come.
//!
//! With `UPDATE_EVIDENCE=1`, the evidence of rows with a rule is written to
//! `harness/testdata/evidence`. The triage's own test reads it there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::diagnostics::{self, Evidence, GIST_FILE};
use harness::lifecycle::Body;
use harness::release::Bundle;
use harness::release::chart::{Chart, Helm, UserValues};
use harness::report::{Outcome, TrialReport};
use harness::settings::placement::PodSecurity;
use harness::trial::{Context, TrialId};
use kube::ResourceExt;
use libtest_mimic::Failed;
use scenarios::conformance;
use scenarios::registry::{self, Trial};
use scenarios::scenario::Start;
use scenarios::test_session::SharedSession;

use super::breakage::{Act, Breakage, Generated};
use super::registry::all;
use super::{Tests, patched_chart, together};

/// Deadline of acts on a deployment that cannot succeed. Six servers can start within it on a busy
/// machine, and the hook can report its obstacle.
const DEADLINE: Duration = Duration::from_secs(30);

/// Time that all acts on a patched chart may take. A permanent failure must be recognised before a
/// deadline. The deadlines are two minutes for a hook and one minute for becoming healthy.
const RECOGNISED: Duration = Duration::from_secs(50);

/// Adds a test for each way of each defect.
pub(super) fn tests(tests: &mut Tests) {
    tests.plain("every_patch_has_a_row", every_patch_has_a_row);
    tests.plain("every_rule_of_a_row_is_known", every_rule_is_known);
    for breakage in all() {
        if let Some(generated) = breakage.generated {
            tests.trial(format!("broken::{}", breakage.name), move |shared| {
                run_generated(shared, breakage, generated)
            });
        }
        if let Some((patch, act)) = breakage.patch {
            tests.with_helm(format!("broken::{patch}::chart"), move |shared, helm| {
                run_chart(shared, helm, breakage, patch, act)
            });
        }
    }
}

fn every_patch_has_a_row() -> Result<(), Failed> {
    let of_rows = all().filter_map(|row| Some(row.patch?.0));
    let known: BTreeSet<&str> = of_rows.chain(together::patches()).collect();
    let patches = patched_chart::patches("broken").map_err(|error| format!("{error:#}"))?;
    match patches.iter().find(|patch| !known.contains(patch.as_str())) {
        Some(patch) => Err(format!(
            "testdata/broken/{patch}.patch is in no row of the registry, and not in together.rs"
        )
        .into()),
        None => Ok(()),
    }
}

/// The triage's own test reports rules without evidence.
fn every_rule_is_known() -> Result<(), Failed> {
    let mut rules = all().filter_map(|row| row.rule);
    match rules.find(|rule| !diagnostics::rules().any(|known| known == *rule)) {
        Some(rule) => Err(format!("a row is recorded as {rule}, which is no rule").into()),
        None => Ok(()),
    }
}

fn run_generated(shared: &SharedSession, breakage: Breakage, generated: Generated) -> Result<(), Failed> {
    let body = match generated {
        Generated::Operation(body) => Body::new(body),
        Generated::Manifests(change) => Body::new(move |context| Box::pin(deploy_changed(context, change))),
    };
    let trial = trial("broken", breakage.name, breakage, body);
    let mut folder = PathBuf::new();
    let report = shared.run(&trial, |environment| {
        if !breakage.pod_security {
            environment.placement.pod_security = PodSecurity::Privileged;
        }
        if breakage.never_healthy {
            environment.deadlines.hook = DEADLINE;
            environment.deadlines.healthy = DEADLINE;
        }
        folder.clone_from(&environment.evidence);
    })?;
    breakage.finding.judge(&report)?;
    match breakage.rule {
        Some(rule) => recognised_by(rule, &folder, report).map_err(|error| format!("{error:#}").into()),
        None => Ok(()),
    }
}

/// Reads the kept evidence as a person would who received only that file.
fn recognised_by(expected: &str, folder: &Path, report: TrialReport) -> Result<()> {
    let Outcome::Failed { cause, message } = report.outcome else {
        anyhow::bail!("must fail, and did not: {:?}", report.outcome);
    };
    let kept = report.evidence.context("no evidence was kept")?;
    let file = folder
        .join(kept.file_name().context("a folder has a name")?)
        .join(GIST_FILE);
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let evidence: Evidence = serde_json::from_str(&text)?;
    let found = diagnostics::recognised(&evidence).with_context(|| {
        format!(
            "no rule knows the content of {}; the error: {message}",
            file.display()
        )
    })?;
    let (rule, said) = (found.rule, found.cause.to_string());
    ensure!(
        rule == expected,
        "{rule} explains it, and not {expected}: {said}\nthe error: {message}"
    );
    ensure!(
        cause.as_deref() == Some(&said),
        "the report says {cause:?}, and the kept file {said:?}"
    );
    if std::env::var_os("UPDATE_EVIDENCE").is_some() {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../harness/testdata/evidence");
        std::fs::write(testdata.join(format!("{rule}.json")), text + "\n")?;
    }
    Ok(())
}

fn run_chart(
    shared: &SharedSession,
    helm: &Helm,
    breakage: Breakage,
    patch: &'static str,
    act: Act,
) -> Result<(), Failed> {
    let copy = patched_chart::copy(&["broken"], &[patch]).map_err(|error| format!("{error:#}"))?;
    let values = match act {
        Act::DeployWith(text) => patched_chart::values_file(copy.path(), text)?,
        _ => UserValues::default(),
    };
    let opened = Chart::open(copy.path(), helm.clone(), values);
    let chart = shared
        .runtime()
        .block_on(opened)?
        .on_cluster(&shared.kubeconfig()?)?;
    let report = shared.run(&chart_trial(breakage, patch, act)?, |environment| {
        environment.subject = Arc::new(chart);
    })?;
    let acted = Duration::from_millis(report.steps.iter().map(|step| step.duration_ms).sum());
    if acted > RECOGNISED {
        return Err(format!(
            "recognised only after {} s: {:?}",
            acted.as_secs(),
            report.outcome
        )
        .into());
    }
    breakage.finding.judge(&report)
}

fn chart_trial(breakage: Breakage, patch: &'static str, act: Act) -> Result<Trial, Failed> {
    let body = match act {
        Act::Deploy | Act::DeployWith(_) => Body::new(|context| Box::pin(deploy(context))),
        Act::Upgrade => Body::new(|context| Box::pin(upgrade(context))),
        Act::Parameter(name) => {
            let wanted = |trial: &Trial| trial.id.scenario.ends_with(&format!("::{name}"));
            let found = conformance::trials().into_iter().find(wanted);
            return found.ok_or_else(|| format!("{name} has no case").into());
        }
        Act::Scenario(name) => {
            let wanted = |trial: &Trial| format!("{}::{}", trial.id.suite, trial.id.scenario) == name;
            let found = registry::trials().into_iter().find(wanted);
            found.ok_or_else(|| format!("there is no scenario {name}"))?.body
        }
    };
    Ok(trial("chart", patch, breakage, body))
}

fn trial(suite: &'static str, name: &'static str, breakage: Breakage, body: Body) -> Trial {
    Trial {
        id: TrialId {
            suite,
            scenario: name.into(),
            mode: breakage.mode,
            variant: breakage.variant,
        },
        start: Start::Whenever,
        body,
    }
}

/// Installs the rendered objects, changed by `change`, and runs every check that the scenarios run.
async fn deploy_changed(context: &mut Context, change: fn(&mut Bundle)) -> Result<()> {
    let values = context.values();
    let mut bundle = context.render(&values)?;
    change(&mut bundle);
    context.install_bundle(values, bundle).await?;
    look_at_everything(context).await
}

async fn deploy(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    look_at_everything(context).await
}

async fn look_at_everything(context: &mut Context) -> Result<()> {
    context.healthy().await?;
    context.verify_objects().await?;
    if let Some(pod) = context.server_pods().await?.first() {
        context.verify_security(&pod.name_any()).await?;
    }
    Ok(())
}

async fn upgrade(context: &mut Context) -> Result<()> {
    context.install_as_given(context.values()).await?;
    let password = context.learn_password().await?;
    context.upgrade_as_given(context.values()).await?;
    context.verify_password_is_kept(&password).await?;
    Ok(())
}
