//! Writers that go on while something is done to the release, and what they are promised.

use std::time::Duration;

use kube::ResourceExt;

use super::context::Context;
use super::error::TrialError;
use crate::checks::Violation;
use crate::timeline::Kind;
pub use crate::valkey::load::report::LoadBudget;
use crate::valkey::load::{self, Load, LoadError, LoadOptions, LoadReport};

impl Context {
    /// Starts writers on every shard. They go on until [`stop_load`](Self::stop_load).
    pub async fn start_load(&mut self) -> Result<(), TrialError> {
        let step = self.steps.begin("start writers on every shard");
        let pods = self
            .server_pods()
            .await?
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        self.loads += 1;
        // Each load has keys of its own: what an earlier one left behind is not this one's.
        let label = format!("load-{}", self.loads);
        let options = LoadOptions {
            journal: Some(self.evidence_folder().join(&label)),
            label,
            ..LoadOptions::default()
        };
        let started = Load::start(self.dialer(), self.passwords.clone(), pods, options).await;
        self.steps.end(step, started.is_ok());
        self.load = Some(started.map_err(|error| match error {
            LoadError::Journal(error) => TrialError::Journal(error),
            LoadError::NoOwners(_) => {
                let seen = error.to_string();
                TrialError::unhealthy(vec![Violation::new(
                    "availability",
                    "the writers",
                    "a shard",
                    seen,
                )])
            }
        })?);
        Ok(())
    }

    /// Stops the writers, reads back what they wrote, and holds it against `budget`.
    pub async fn stop_load(&mut self, budget: LoadBudget) -> Result<LoadReport, TrialError> {
        let load = self.load.take().ok_or(TrialError::NoData)?;
        let step = self.steps.begin("account for the writers");
        let report = load.stop().await;
        if let Some(cause) = &report.unrecorded {
            self.steps.end(step, false);
            return Err(TrialError::Unrecorded(cause.clone()));
        }
        for (pod, shard) in &report.shards {
            let text = format!(
                "longest gap without a write {} ms, from {}; slots {}",
                shard.longest_gap.as_millis(),
                shard.gap_began_at,
                shard.slots.summary()
            );
            self.timeline()
                .record(Kind::Note, format!("shard of {pod}"), text);
        }
        if let Some((_, gap)) = report.worst_gap() {
            self.measure("longest_gap_ms", gap.as_secs_f64() * 1000.0);
        }
        let verdict = TrialError::unless_kept(report.violations(&budget));
        self.steps.end(step, verdict.is_ok());
        self.record_availability(&format!("load {}", self.loads), &report);
        verdict?;
        self.record_kept([load::report::AVAILABILITY, load::report::DATA]);
        Ok(report)
    }

    /// How long a shard may be without a primary when one fails or leaves without having been drained: until the others
    /// agree that it is gone and have elected a replica (chart README, Known Limitations).
    pub fn failover_budget(&self) -> Result<LoadBudget, TrialError> {
        let timeout = u64::from(self.installed_values()?.cluster.node_timeout);
        Ok(LoadBudget {
            unconfirmed_losses: UNCONFIRMED_LOSSES,
            longest_gap: Duration::from_millis(timeout) + ELECTION,
        })
    }

    /// How long a shard may be without a primary while its slots move: they move in one instant, and clients follow.
    pub fn migration_budget(&self) -> LoadBudget {
        LoadBudget {
            unconfirmed_losses: 0,
            longest_gap: MIGRATION,
        }
    }
}

/// Writes that no replica had may be lost in a failover, by Valkey's design: as many as the writers of a shard send
/// within a second.
const UNCONFIRMED_LOSSES: u64 = 800;

/// What an election takes beyond the node timeout: the failure must be agreed on and voted for.
const ELECTION: Duration = Duration::from_secs(10);

/// An atomic migration stops the writes of its slots for milliseconds. Servers and writers share the machine with other
/// trials, so that seconds pass without anything being wrong.
const MIGRATION: Duration = Duration::from_secs(3);
