//! Writers that run during an operation, and the limits of their losses and gaps.

use std::time::Duration;

use kube::ResourceExt;

use super::context::Context;
use super::error::TrialError;
use crate::checks::Violation;
use crate::timeline::EntryKind;
pub use crate::valkey::load::report::LoadBudget;
use crate::valkey::load::{self, Load, LoadError, LoadOptions, LoadReport};

impl Context {
    /// Starts writers on every shard. They run until [`stop_load`](Self::stop_load).
    pub async fn start_load(&mut self) -> Result<(), TrialError> {
        self.data.loads += 1;
        // Each load has separate keys, so keys of an earlier load cannot disturb it.
        let label = format!("load-{}", self.data.loads);
        let options = LoadOptions {
            journal: Some(self.evidence_folder().join(&label)),
            label,
            ..LoadOptions::default()
        };
        let started = async {
            let pods = self.server_pods().await?;
            let pods = pods.iter().map(ResourceExt::name_any).collect();
            let load = Load::start(self.dialer(), self.credentials.passwords.clone(), pods, options).await;
            load.map_err(not_started)
        };
        self.data.load = Some(
            self.recorder
                .steps
                .run("start writers on every shard", started)
                .await?,
        );
        Ok(())
    }

    /// Stops the writers, reads their keys back, and compares the result with `budget`.
    pub async fn stop_load(&mut self, budget: LoadBudget) -> Result<LoadReport, TrialError> {
        let load = self.data.load.take().ok_or(TrialError::NoData)?;
        let steps = self.recorder.steps.clone();
        let mut report = None;
        let accounted = async {
            let found = self.account_for(load).await?;
            let violations = found.violations(&budget);
            report = Some(found);
            Ok::<_, TrialError>(violations)
        };
        let violations = steps.judge("account for the writers", accounted).await?;
        self.recorder.note_broken(violations);
        self.recorder
            .kept([load::report::AVAILABILITY, load::report::DATA]);
        Ok(report.expect("the step above has made it"))
    }

    async fn account_for(&mut self, load: Load) -> Result<LoadReport, TrialError> {
        let report = load.stop().await;
        if let Some(cause) = &report.unrecorded {
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
                .record(EntryKind::Note, format!("shard of {pod}"), text);
        }
        if let Some((_, gap)) = report.worst_gap() {
            self.recorder
                .measure("longest_gap_ms", gap.as_secs_f64() * 1000.0);
        }
        self.recorder
            .availability(&format!("load {}", self.data.loads), &report);
        Ok(report)
    }

    /// Returns the time without a primary that a shard may have when one fails or leaves undrained.
    /// The other nodes must first agree on the failure and elect a replica (chart README, Known
    /// Limitations).
    pub fn failover_budget(&self) -> Result<LoadBudget, TrialError> {
        let timeout = u64::from(self.deployment.values()?.cluster.node_timeout);
        Ok(LoadBudget {
            unconfirmed_losses: UNCONFIRMED_LOSSES,
            longest_gap: Duration::from_millis(timeout) + ELECTION,
        })
    }

    /// Returns the time without a primary that a shard may have while its slots move. The slots
    /// move in one instant, and clients follow.
    pub fn migration_budget(&self) -> LoadBudget {
        LoadBudget {
            unconfirmed_losses: 0,
            longest_gap: MIGRATION,
        }
    }
}

fn not_started(error: LoadError) -> TrialError {
    match error {
        LoadError::RecordFile(error) => TrialError::RecordFile(error),
        LoadError::NoOwners(_) => TrialError::unhealthy(vec![Violation::new(
            "availability",
            "the writers",
            "a shard",
            error.to_string(),
        )]),
    }
}

/// A failover may lose writes that no replica had, by Valkey's design. The limit is the number of
/// writes that a shard's writers send within a second.
const UNCONFIRMED_LOSSES: u64 = 800;

/// Time of an election beyond the node timeout. The nodes must agree on the failure and vote.
const ELECTION: Duration = Duration::from_secs(10);

/// An atomic migration stops writes to its slots for milliseconds. Other trials share the machine,
/// so a gap of seconds is not a fault.
const MIGRATION: Duration = Duration::from_secs(3);
