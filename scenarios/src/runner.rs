//! A run: trials in parallel, each told to the reporters, and the report of it all. A run can be interrupted at any moment:
//! trials under way are dropped, and what is known by then is reported.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use harness::cluster::Provenance;
use harness::report::deployment::{ChartSource, Deployment};
use harness::report::model::SCHEMA_VERSION;
use harness::report::verdict::verdict;
use harness::report::{Event, RunReport, RunVerdict, TrialReport};
use harness::trial::{Environment, run};
use manifests::Mode;
use tokio_util::sync::CancellationToken;

use crate::registry::{self, Trial};
use crate::session::SessionOptions;

/// Runs `trials`, as many at a time as the environment has turns, until all have ended or `stop` is cancelled. The result
/// is in the order of `trials`; one that had not ended by then is skipped, with that reason.
pub async fn run_trials(
    trials: &[Trial],
    environment: &Environment,
    stop: &CancellationToken,
) -> Vec<TrialReport> {
    let mut ended: BTreeMap<usize, TrialReport> = BTreeMap::new();
    // All ask for a turn at once, in this order.
    let running: FuturesUnordered<_> = starting_order(trials)
        .into_iter()
        .map(|index| async move { (index, run_one(&trials[index], environment).await) })
        .collect();
    let running = running.take_until(stop.cancelled());
    let mut running = std::pin::pin!(running);
    while let Some((index, report)) = running.next().await {
        ended.insert(index, report);
    }
    let unfinished =
        |trial: &Trial| run::skipped(&trial.id, "the run was interrupted before its end".to_owned());
    trials
        .iter()
        .enumerate()
        .map(|(index, trial)| ended.remove(&index).unwrap_or_else(|| unfinished(trial)))
        .collect()
}

/// The places in `trials`, those that take longest first: one that starts last would be waited for alone.
fn starting_order(trials: &[Trial]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..trials.len()).collect();
    order.sort_by_key(|index| {
        let trial = &trials[*index];
        (trial.scenario.start, Reverse(trial.id.mode == Mode::Cluster))
    });
    order
}

/// Runs one trial, unless it needs what the cluster does not have.
pub async fn run_one(trial: &Trial, environment: &Environment) -> TrialReport {
    let capabilities = &environment.capabilities;
    // Every deployment of the chart has claims, unless told otherwise.
    let lacks = capabilities.no_storage.clone();
    match lacks.or_else(|| (trial.scenario.lacks)(capabilities)) {
        None => run::run(&trial.id, environment, trial.scenario.body).await,
        Some(reason) => {
            let report = run::skipped(&trial.id, reason);
            environment.events.send(Event::TrialFinished {
                report: Box::new(report.clone()),
            });
            report
        }
    }
}

/// When a run began.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    at: jiff::Timestamp,
    clock: Instant,
}

impl Started {
    /// It begins now.
    pub fn now() -> Self {
        Self {
            at: jiff::Timestamp::now(),
            clock: Instant::now(),
        }
    }
}

/// The report of a run that begins: without trials, and inconclusive.
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
            chart: options
                .chart
                .as_ref()
                .map(|chart| ChartSource::of_folder(chart.folder())),
            ..Deployment::of_project(options.profile)
        },
        catalogue: registry::trials()
            .iter()
            .map(|trial| trial.id.to_string())
            .collect(),
        merged: Vec::new(),
        baseline: None,
        trials: Vec::new(),
        interrupted: false,
    }
}

/// The report of the same run at its end.
pub fn ended(
    begun: RunReport,
    started: Started,
    provenance: Provenance,
    trials: Vec<TrialReport>,
    interrupted: bool,
) -> RunReport {
    let (verdict, because) = verdict(trials.iter().map(|trial| &trial.outcome), interrupted);
    RunReport {
        duration_ms: u64::try_from(started.clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        verdict,
        because,
        provenance,
        trials,
        interrupted,
        ..begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Start;

    #[test]
    fn what_watches_for_a_minute_starts_first_and_what_is_short_last() {
        let trials = registry::trials();
        let order = starting_order(&trials);
        let starts: Vec<Start> = order.iter().map(|index| trials[*index].scenario.start).collect();
        assert!(starts.is_sorted(), "{starts:?}");
        let first: Vec<&str> = order
            .iter()
            .take(8)
            .map(|index| trials[*index].id.scenario)
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
