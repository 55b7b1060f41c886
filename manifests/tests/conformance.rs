//! Every parameter changes exactly what the table `src/conformance/parameters.yaml` lists. Each
//! parameter is one trial.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use manifests::conformance::{Case, Objects, Renderer, cases, judge};
use manifests::values::PARAMETERS;
use manifests::{Hook, Release, Values, render};
use serde_json::Value;

fn main() -> ExitCode {
    let mut by_parameter: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in cases() {
        by_parameter.entry(case.parameter.clone()).or_default().push(case);
    }
    let covered: BTreeSet<String> = by_parameter.keys().cloned().collect();
    let mut trials = vec![Trial::test(
        "conformance::every_parameter_has_a_case",
        move || every_parameter_has_a_case(&covered),
    )];
    let notices = || each_case(notices_what_is_wrong);
    trials.push(Trial::test(
        "conformance::every_case_notices_what_is_wrong",
        notices,
    ));
    trials.extend(by_parameter.into_iter().map(|(parameter, cases)| {
        Trial::test(format!("conformance::parameter::{parameter}"), move || {
            cases.iter().try_for_each(changes_exactly)
        })
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Checks that the table covers the README and our own extension, and nothing else.
fn every_parameter_has_a_case(covered: &BTreeSet<String>) -> Result<(), Failed> {
    let needed = PARAMETERS
        .iter()
        .filter(|parameter| parameter.in_readme)
        .map(|parameter| parameter.path);
    let needed: BTreeSet<String> = needed
        .chain(["cluster.drainBeforeScaleDown"])
        .map(str::to_owned)
        .collect();
    let without: Vec<_> = needed.difference(covered).collect();
    let unknown: Vec<_> = covered.difference(&needed).collect();
    if without.is_empty() && unknown.is_empty() {
        return Ok(());
    }
    Err(format!("parameters without a case: {without:?}; cases of no parameter: {unknown:?}").into())
}

fn each_case(test: fn(&Case) -> Result<(), Failed>) -> Result<(), Failed> {
    cases().iter().try_for_each(test)
}

fn changes_exactly(case: &Case) -> Result<(), Failed> {
    let (before, after) = case.values()?;
    if before == after {
        return Err(format!("{} sets nothing away from its default", case.parameter).into());
    }
    let findings = findings(case, &objects(&before)?, &objects(&after)?);
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings.into())
    }
}

/// Checks that a rendering fails the case if it ignores a parameter that has an effect. It must
/// also fail if it changes another object.
fn notices_what_is_wrong(case: &Case) -> Result<(), Failed> {
    let (before, after) = case.values()?;
    let (old, new) = (objects(&before)?, objects(&after)?);
    let ignored = findings(case, &old, &old);
    if ignored.is_empty() && old != new {
        return Err(format!("{} may be ignored", case.parameter).into());
    }
    let mut other = rendered(&after)?;
    let service = other.iter_mut().find(|object| object["kind"] == "Service");
    service.ok_or("no Service is rendered")?["metadata"]["labels"]["surprise"] = "yes".into();
    let surprised = findings(case, &old, &Objects::new(other));
    let told =
        surprised.contains("metadata.labels[surprise]") || surprised.contains("metadata.labels.surprise");
    if told {
        Ok(())
    } else {
        Err(format!("{}: {surprised:?}", case.parameter).into())
    }
}

fn findings(case: &Case, before: &Objects, after: &Objects) -> String {
    let verdict = judge(case, before, after, Renderer::Ours);
    verdict
        .findings
        .iter()
        .map(|finding| format!("\n  {finding}"))
        .collect()
}

fn objects(values: &Values) -> Result<Objects, Failed> {
    Ok(Objects::new(rendered(values)?))
}

fn rendered(values: &Values) -> Result<Vec<Value>, Failed> {
    let manifests = render(&Release::install("my-valkey", "prod"), values)?;
    Ok(manifests
        .objects()
        .into_iter()
        .chain(manifests.hooks.iter().map(Hook::to_value))
        .collect())
}
