//! The merging of several reports, such as the shards of a matrix, into one.

use std::collections::{BTreeMap, BTreeSet};

use super::finding;
use super::known::{Acceptance, AcceptanceState};
use super::model::{MergedRun, RunReport, RunVerdict, TrialReport};
use super::verdict::verdict;

/// Reasons why reports do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// There is nothing to merge.
    #[error("there is no report to merge")]
    Nothing,
    /// The reports differ in what they tested, or how.
    #[error("{first} and {other} do not belong together: the {what} differ: {one} and {two}")]
    Mixed {
        /// The first run.
        first: String,
        /// Another one.
        other: String,
        /// The difference.
        what: &'static str,
        /// The value of the first.
        one: String,
        /// The value of the other.
        two: String,
    },
    /// Two of the reports have the same trial.
    #[error("trial {trial} is in both {first} and {other}: shards must not overlap")]
    Overlap {
        /// The trial.
        trial: String,
        /// The run that had it first.
        first: String,
        /// The other run.
        other: String,
    },
}

/// Returns the parts that must be equal in all reports, with their names.
fn provenance(report: &RunReport) -> [(&'static str, String); 7] {
    let deployment = &report.deployment;
    let images: BTreeSet<String> = report
        .provenance
        .images
        .iter()
        .map(|image| format!("{}@{}", image.reference, image.digest))
        .collect();
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    [
        ("project commits", text(&deployment.commit)),
        ("deployed charts", deployment.subject()),
        ("manifests", deployment.manifests_digest.clone()),
        ("images", images.into_iter().collect::<Vec<_>>().join(", ")),
        ("profiles", report.profile.clone()),
        ("Kubernetes versions", report.provenance.kubernetes.clone()),
        ("providers", report.provenance.provider.clone()),
    ]
}

/// Merges `reports` into one. Names the trials of the catalogue that no report has. The verdict is
/// then at best inconclusive.
pub fn merge(reports: &[RunReport]) -> Result<RunReport, MergeError> {
    let first = reports.first().ok_or(MergeError::Nothing)?;
    for other in &reports[1..] {
        refuse_mixed(first, other)?;
    }
    let trials = all_trials(reports)?;
    let catalogue: Vec<String> = reports
        .iter()
        .map(|report| &report.catalogue)
        .max_by_key(|catalogue| catalogue.len())
        .cloned()
        .unwrap_or_default();
    let missing: Vec<&String> = catalogue
        .iter()
        .filter(|name| !trials.contains_key(*name))
        .collect();
    let place = |name: &str| {
        catalogue
            .iter()
            .position(|known| known == name)
            .unwrap_or(usize::MAX)
    };
    let mut merged: Vec<TrialReport> = trials.into_values().map(|(_, trial)| trial).collect();
    merged.sort_by_cached_key(|trial| (place(&trial.name), trial.name.clone()));

    let interrupted = reports.iter().any(|report| report.interrupted);
    let findings = finding::fold(&mut merged);
    let (mut said, mut because) = verdict(&merged, interrupted);
    if !missing.is_empty() {
        if matches!(
            said,
            RunVerdict::Qualified | RunVerdict::QualifiedWithKnownFindings
        ) {
            said = RunVerdict::Inconclusive;
        }
        let names: Vec<&str> = missing.iter().map(|name| name.as_str()).collect();
        because.push_str(&format!(
            "; {} in none of the reports: {}",
            count(names.len()),
            names.join(", ")
        ));
    }
    let started = reports
        .iter()
        .map(|report| report.started)
        .min()
        .unwrap_or(first.started);
    Ok(RunReport {
        run: format!("merged-{}", first.run),
        started,
        duration_ms: reports.iter().map(|report| report.duration_ms).max().unwrap_or(0),
        verdict: said,
        because,
        merged: reports.iter().map(part).collect(),
        findings,
        known: all_known(reports),
        baseline: None,
        trials: merged,
        interrupted,
        catalogue,
        ..first.clone()
    })
}

/// Returns the entries of known findings of all reports. An entry is used if any report used it.
fn all_known(reports: &[RunReport]) -> Vec<Acceptance> {
    let mut known: Vec<Acceptance> = Vec::new();
    for entry in reports.iter().flat_map(|report| &report.known) {
        match known
            .iter_mut()
            .find(|other| (&other.id, &other.scope) == (&entry.id, &entry.scope))
        {
            Some(other) if entry.state == AcceptanceState::Used => other.state = entry.state,
            Some(_) => {}
            None => known.push(entry.clone()),
        }
    }
    known
}

fn count(trials: usize) -> String {
    match trials {
        1 => "1 trial is".to_owned(),
        more => format!("{more} trials are"),
    }
}

fn part(report: &RunReport) -> MergedRun {
    MergedRun {
        run: report.run.clone(),
        started: report.started,
        trials: report.trials.len(),
        seed: report.seed,
    }
}

fn refuse_mixed(first: &RunReport, other: &RunReport) -> Result<(), MergeError> {
    for ((what, one), (_, two)) in provenance(first).into_iter().zip(provenance(other)) {
        if one != two {
            return Err(MergeError::Mixed {
                first: first.run.clone(),
                other: other.run.clone(),
                what,
                one,
                two,
            });
        }
    }
    Ok(())
}

/// Returns every trial with its run. Each trial keeps the seed of that run.
fn all_trials(reports: &[RunReport]) -> Result<BTreeMap<String, (String, TrialReport)>, MergeError> {
    let mut trials: BTreeMap<String, (String, TrialReport)> = BTreeMap::new();
    for report in reports {
        for trial in &report.trials {
            let mut trial = trial.clone();
            trial.record.seed.get_or_insert(report.seed);
            let (name, run) = (trial.name.clone(), report.run.clone());
            if let Some((first, _)) = trials.insert(name.clone(), (run, trial)) {
                return Err(MergeError::Overlap {
                    trial: name,
                    first,
                    other: report.run.clone(),
                });
            }
        }
    }
    Ok(trials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use crate::model::samples::{report, trial};

    fn whole() -> RunReport {
        let mut trials = Vec::new();
        for scenario in ["forms", "nine"] {
            for mode in ["standalone", "cluster"] {
                for variant in ["rpm", "hardened"] {
                    let outcome = match (scenario, mode) {
                        ("nine", "standalone") => Outcome::Skipped { reason: "x".into() },
                        _ => Outcome::Passed,
                    };
                    trials.push(trial("formation", scenario, mode, variant, outcome));
                }
            }
        }
        let mut whole = report(trials);
        whole.catalogue = whole.trials.iter().map(|trial| trial.name.clone()).collect();
        whole
    }

    /// Returns one report for each combination, as a CI matrix makes them.
    fn shards(whole: &RunReport) -> Vec<RunReport> {
        [
            "standalone-rpm",
            "standalone-hardened",
            "cluster-rpm",
            "cluster-hardened",
        ]
        .iter()
        .enumerate()
        .map(|(number, combination)| {
            let mut shard = whole.clone();
            shard.run = format!("shard-{number}");
            shard.seed = number as u64;
            shard.trials.retain(|trial| trial.combination() == *combination);
            shard
        })
        .collect()
    }

    #[test]
    fn four_shards_say_what_the_whole_run_says() {
        let mut whole = whole();
        for failing in [false, true] {
            if failing {
                whole.trials[5].outcome = Outcome::Failed {
                    cause: None,
                    message: "x".into(),
                };
                let (said, because) = verdict(&whole.trials, false);
                (whole.verdict, whole.because) = (said, because);
            }
            let merged = merge(&shards(&whole)).expect("they belong together");
            assert_eq!((merged.verdict, &merged.because), (whole.verdict, &whole.because));
            let outcomes = |report: &RunReport| -> Vec<(String, Outcome)> {
                report
                    .trials
                    .iter()
                    .map(|trial| (trial.name.clone(), trial.outcome.clone()))
                    .collect()
            };
            assert_eq!(outcomes(&merged), outcomes(&whole));
            assert_eq!(merged.merged.len(), 4);
            assert_eq!(
                merged.trials[1].record.seed,
                Some(1),
                "a trial keeps its run's seed"
            );
        }
    }

    #[test]
    fn a_missing_shard_is_never_green_and_its_trials_are_named() {
        let mut shards = shards(&whole());
        shards.pop();
        let merged = merge(&shards).expect("they belong together");
        assert_eq!(merged.verdict, RunVerdict::Inconclusive);
        assert!(
            merged
                .because
                .contains("2 trials are in none of the reports: formation::forms::cluster-hardened"),
            "{}",
            merged.because
        );
    }

    #[test]
    fn what_does_not_belong_together_is_refused_by_name() {
        let mut shards = shards(&whole());
        shards[2].deployment.commit = Some("abc".to_owned());
        let error = merge(&shards).expect_err("another commit");
        assert_eq!(
            error.to_string(),
            "shard-0 and shard-2 do not belong together: the project commits differ: unknown and abc"
        );
        shards[2] = shards[1].clone();
        let error = merge(&shards).expect_err("the same trials twice");
        assert!(
            error.to_string().contains("is in both shard-1 and shard-1"),
            "{error}"
        );
        assert_eq!(merge(&[]), Err(MergeError::Nothing));
    }
}
