//! A run: trials in parallel, their events for the reporters, and the final report. A run can end
//! early at any moment. Trials under way are then cut off, and clean up if the cluster outlives the
//! run. The report has all results up to that moment.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use harness::cluster::Provenance;
use harness::lifecycle;
use harness::report::deployment::{ChartSource, Deployment};
use harness::report::known::KnownFindings;
use harness::report::model::SCHEMA_VERSION;
use harness::report::verdict::conclude;
use harness::report::{Event, RunReport, RunVerdict, TrialReport};
use harness::trial::Environment;
use manifests::Mode;

use crate::registry::{self, Trial};
use crate::session::SessionOptions;

/// Time that cut-off trials may take to clean up. A healthy cluster deletes a namespace in 5 to 30
/// s; `sweep` removes a namespace that takes longer.
const CLEAN_UP: Duration = Duration::from_secs(90);

/// Time that the collection of evidence may take when the cluster ends with the run.
const LAST_EVIDENCE: Duration = Duration::from_secs(10);

/// Runs `trials` in parallel, as the environment has turns, until all have ended. The environment's
/// `halt` ends the run early. The result is in the order of `trials`.
pub async fn run_trials(trials: &[Trial], environment: &Environment) -> Vec<TrialReport> {
    let mut ended: BTreeMap<usize, TrialReport> = BTreeMap::new();
    // All trials ask for a turn at once, in this order.
    let running: FuturesUnordered<_> = starting_order(trials)
        .into_iter()
        .map(|index| async move { (index, run_one(&trials[index], environment).await) })
        .collect();
    let limit = if environment.borrowed {
        CLEAN_UP
    } else {
        LAST_EVIDENCE
    };
    let over = async {
        environment.halt.halted().await;
        let _ = tokio::time::timeout(limit, std::future::pending::<()>()).await;
    };
    let running = running.take_until(over);
    let mut running = std::pin::pin!(running);
    while let Some((index, report)) = running.next().await {
        ended.insert(index, report);
    }
    let unfinished = |trial: &Trial| lifecycle::left_behind(&trial.id, environment, limit);
    trials
        .iter()
        .enumerate()
        .map(|(index, trial)| ended.remove(&index).unwrap_or_else(|| unfinished(trial)))
        .collect()
}

/// Returns the indices of `trials`, longest trials first. A long trial that starts last would run
/// alone at the end.
fn starting_order(trials: &[Trial]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..trials.len()).collect();
    order.sort_by_key(|index| {
        let trial = &trials[*index];
        (trial.start, Reverse(trial.id.mode == Mode::Cluster))
    });
    order
}

/// Runs one trial, or skips it if the cluster lacks something that it needs.
pub async fn run_one(trial: &Trial, environment: &Environment) -> TrialReport {
    // Every deployment of the chart has claims by default.
    let no_storage = environment.capabilities.no_storage.clone();
    let excluded = || environment.subject.excludes(trial.id.mode, trial.id.variant);
    match no_storage.or_else(excluded) {
        None => lifecycle::run(&trial.id, environment, &trial.body).await,
        Some(reason) => {
            let report = lifecycle::skipped(&trial.id, reason);
            environment.events.send(Event::TrialFinished {
                report: Box::new(report.clone()),
            });
            report
        }
    }
}

/// The start time of a run.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    at: jiff::Timestamp,
    clock: Instant,
}

impl Started {
    /// Returns the current time.
    pub fn now() -> Self {
        Self {
            at: jiff::Timestamp::now(),
            clock: Instant::now(),
        }
    }
}

/// Returns the report of a run at its start: without trials, and inconclusive.
pub fn begun(started: Started, options: &SessionOptions) -> RunReport {
    RunReport {
        schema: SCHEMA_VERSION,
        run: options.run.clone(),
        started: started.at,
        duration_ms: 0,
        verdict: RunVerdict::Inconclusive,
        because: "the run has not ended".to_owned(),
        profile: options.profile.name().to_owned(),
        seed: options.seed,
        provenance: Provenance::default(),
        deployment: Deployment {
            chart: options.chart.as_ref().map(ChartSource::of_chart_file),
            ..Deployment::of_project(options.profile)
        },
        catalogue: registry::trials()
            .iter()
            .map(|trial| trial.id.to_string())
            .collect(),
        merged: Vec::new(),
        findings: Vec::new(),
        known: Vec::new(),
        baseline: None,
        trials: Vec::new(),
        interrupted: false,
    }
}

/// Returns the report of the run at its end, and accepts the `known` findings.
pub fn ended(
    begun: RunReport,
    started: Started,
    provenance: Provenance,
    trials: Vec<TrialReport>,
    interrupted: bool,
    known: Option<&KnownFindings>,
) -> RunReport {
    let mut report = RunReport {
        duration_ms: u64::try_from(started.clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        provenance,
        trials,
        interrupted,
        ..begun
    };
    conclude(&mut report, known, jiff::Zoned::now().date());
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Start;

    #[test]
    fn trials_that_watch_longest_start_first_and_short_ones_last() {
        let trials = registry::trials();
        let order = starting_order(&trials);
        let starts: Vec<Start> = order.iter().map(|index| trials[*index].start).collect();
        assert!(starts.is_sorted(), "{starts:?}");
        let first: Vec<&str> = order
            .iter()
            .take(8)
            .map(|index| trials[*index].id.scenario.as_ref())
            .collect();
        for scenario in [
            "full_restart",
            "there_and_back_again",
            "a_job_that_is_killed_is_completed",
            "by_restart",
        ] {
            assert!(first.contains(&scenario), "{scenario} is not in {first:?}");
        }
        assert_eq!(order.len(), trials.len());
    }
}
