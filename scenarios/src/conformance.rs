//! Render conformance of a chart on disk: every parameter changes exactly the fields that it should. The cases are those
//! of our own manifests (`manifests/src/conformance/parameters.yaml`). Nothing is deployed.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use harness::trial::{TrialError, TrialId};
use manifests::conformance::{Objects, Renderer, cases, judge};
use manifests::{Mode, Values, Variant};

use crate::Context;
use crate::registry::Trial;
use crate::scenario::{Scenario, Start, everywhere, nothing};

/// The first part of the trials' names.
const SUITE: &str = "conformance";
/// What stands before the parameter in a trial's name.
const PREFIX: &str = "parameter::";
/// Ours, which a chart need not have.
const EXTENSION: &str = "cluster.drainBeforeScaleDown";

/// One trial for each parameter. They belong to a run with a chart on disk: our own rendering is held to the same table by
/// the tests of `manifests`.
pub fn trials() -> Vec<Trial> {
    let parameters: BTreeSet<String> = cases().into_iter().map(|case| case.parameter).collect();
    let trial = |parameter: String| Trial {
        id: TrialId {
            suite: SUITE,
            scenario: name(&parameter),
            // A case has its own mode and variant; this is the combination of those that have neither.
            mode: Mode::Standalone,
            variant: Variant::Rpm,
        },
        scenario: Scenario {
            name: name(&parameter),
            fits: everywhere,
            lacks: nothing,
            start: Start::Whenever,
            body: |context| Box::pin(changes_exactly(context)),
        },
    };
    parameters.into_iter().map(trial).collect()
}

/// A name for as long as the process lives: the table is read once or twice in that time.
fn name(parameter: &str) -> &'static str {
    format!("{PREFIX}{parameter}").leak()
}

/// Renders both sides of every case of the trial's parameter, and lists what is not as the table says.
async fn changes_exactly(context: &mut Context) -> Result<()> {
    let parameter = context.id().scenario.trim_start_matches(PREFIX);
    if parameter == EXTENSION {
        let reason = format!("{parameter} is not in the chart's README; a chart need not have it");
        return Err(TrialError::NotJudged(reason).into());
    }
    let mut findings = Vec::new();
    for case in cases().iter().filter(|case| case.parameter == parameter) {
        let (before, after) = case.values()?;
        let (before, after) = (
            rendered(context, &before).await?,
            rendered(context, &after).await?,
        );
        let verdict = judge(case, &before, &after, Renderer::Chart);
        findings.extend(
            verdict
                .findings
                .iter()
                .map(|finding| format!("\n  - conformance: {finding}")),
        );
    }
    ensure!(
        findings.is_empty(),
        "the parameter does not do what the README says:{}",
        findings.concat()
    );
    Ok(())
}

async fn rendered(context: &Context, values: &Values) -> Result<Objects> {
    let chart = context
        .environment()
        .chart
        .as_ref()
        .context("there is no chart on disk to render")?;
    Ok(Objects::new(chart.objects("my-valkey", "prod", values).await?))
}
