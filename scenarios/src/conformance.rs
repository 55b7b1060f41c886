//! Render conformance of a chart on disk: every parameter changes exactly the fields that it
//! should. The cases are the cases of our own manifests
//! (`manifests/src/conformance/parameters.yaml`). Nothing is deployed.

use std::collections::BTreeSet;

use anyhow::Result;
use harness::findings::Violation;
use harness::lifecycle::Body;
use harness::release::{ReleaseError, Subject};
use harness::trial::format_error;
use harness::trial::{TrialError, TrialId};
use manifests::conformance::{Objects, Renderer, cases, judge};
use manifests::{Mode, Variant};

use crate::Context;
use crate::registry::Trial;
use crate::scenario::Start;

/// The first part of the trials' names.
const SUITE: &str = "conformance";
/// A parameter of our own manifests, which the README of a chart does not require.
const EXTENSION: &str = "cluster.drainBeforeScaleDown";

/// Returns one trial for each parameter. Only a run with a chart on disk has these trials. The
/// tests of `manifests` check our own rendering against the same table.
pub fn trials() -> Vec<Trial> {
    let parameters: BTreeSet<String> = cases().into_iter().map(|case| case.parameter).collect();
    parameters.into_iter().map(trial).collect()
}

fn trial(parameter: String) -> Trial {
    Trial {
        id: TrialId {
            suite: SUITE,
            scenario: format!("parameter::{parameter}").into(),
            // A case has its own mode and variant. This combination is for cases that have neither.
            mode: Mode::Standalone,
            variant: Variant::Rpm,
        },
        start: Start::Whenever,
        body: Body::new(move |context| Box::pin(changes_exactly(context, parameter.clone()))),
    }
}

/// Renders both sides of every case of `parameter`, and reports each difference from the
/// table.
async fn changes_exactly(context: &mut Context, parameter: String) -> Result<()> {
    if parameter == EXTENSION {
        let reason = format!("{parameter} is not in the chart's README; a chart need not have it");
        return Err(TrialError::NotJudged(reason).into());
    }
    let findings = findings(context.environment().subject.as_ref(), &parameter).await?;
    let violation = |found: &String| Violation::new(SUITE, &parameter, "to do what the README says", found);
    Ok(TrialError::unless_kept(findings.iter().map(violation).collect())?)
}

/// Renders both sides of every case of `parameter`, and returns each difference from the table as
/// one line.
pub async fn findings(subject: &dyn Subject, parameter: &str) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for case in cases().iter().filter(|case| case.parameter == parameter) {
        let sides = futures::future::try_join(
            rendered(subject, case.settings_before()),
            rendered(subject, case.settings_after()),
        );
        match sides.await {
            Ok((before, after)) => {
                let verdict = judge(case, &before, &after, Renderer::Chart);
                let found = verdict.findings.iter();
                findings.extend(found.map(ToString::to_string));
            }
            // A chart may leave out a parameter that changes nothing.
            Err(error) if error.is_of_the_schema() && !case.changes_something() => {}
            Err(error) if error.is_of_the_schema() => {
                let said = format_error(&error.into());
                findings.push(format!("{parameter}: the chart does not accept it: {said}"));
            }
            Err(error) => return Err(TrialError::from(error).into()),
        }
    }
    Ok(findings)
}

async fn rendered(subject: &dyn Subject, settings: Vec<&str>) -> Result<Objects, ReleaseError> {
    Ok(Objects::new(subject.render_case(&settings).await?))
}
