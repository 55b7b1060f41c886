//! The trial's data: a ledger over every slot, on disk while the trial runs, and with the evidence when it fails.

use std::path::PathBuf;

use kube::ResourceExt;

use super::context::Context;
use super::error::TrialError;
use crate::checks::Violation;
use crate::valkey::ledger::{
    self, Ledger, LedgerSpec, Mix, Target, Verification, VerifyOptions, WriteOptions, WriteReport,
};
use crate::valkey::slots::SLOT_COUNT;

/// Two keys in each slot: every type, size and lifetime meets every shard, and it takes a fraction of a second.
const KEYS: u64 = 2 * SLOT_COUNT as u64;

/// The folder of the ledger, within the trial's evidence.
const FOLDER: &str = "ledger";

impl Context {
    /// Writes keys into every slot; the next generation of them if they have been written before. Every write must be
    /// acknowledged, and confirmed by a replica where there are replicas.
    pub async fn write_data(&mut self) -> Result<(), TrialError> {
        let step = self.steps.begin("write data into every slot");
        let written = self.write_generation().await;
        self.steps.end(step, written.is_ok());
        written
    }

    /// Reads every key back. Each must hold what was acknowledged last.
    pub async fn verify_data(&mut self) -> Result<(), TrialError> {
        let step = self.steps.begin("account for every key");
        let found = self.read_data().await;
        if let Ok(found) = &found {
            self.record_ledger(&self.steps.last(), found);
        }
        let verdict = found.and_then(|found| {
            let violations = found.violations(0);
            self.accounted = Some(found);
            TrialError::unless_kept(violations)
        });
        self.steps.end(step, verdict.is_ok());
        verdict?;
        self.record_kept([ledger::report::CHECK]);
        Ok(())
    }

    /// Reads every key back, and says what became of each.
    pub async fn read_data(&self) -> Result<Verification, TrialError> {
        let target = self.target().await?;
        let ledger = self.ledger.as_ref().ok_or(TrialError::NoData)?;
        Ok(ledger.verify(&target, &VerifyOptions::default()).await)
    }

    /// What the trial's ledger consists of.
    pub fn ledger(&self) -> Result<&Ledger, TrialError> {
        self.ledger.as_ref().ok_or(TrialError::NoData)
    }

    /// Removes what a trial that passed recorded of its writes.
    pub(super) fn discard_data(&mut self) -> std::io::Result<()> {
        if self.ledger.take().is_none() && self.loads == 0 {
            return Ok(());
        }
        std::fs::remove_dir_all(self.evidence_folder())
    }

    async fn write_generation(&mut self) -> Result<(), TrialError> {
        if self.ledger.is_none() {
            let spec = LedgerSpec {
                label: "data".to_owned(),
                seed: self.environment().seed,
                keys: KEYS,
                mix: Mix::Varied,
                base_ms: jiff::Timestamp::now().as_millisecond(),
            };
            self.ledger = Some(Ledger::create(&self.evidence_folder().join(FOLDER), spec)?);
        }
        let confirm = u32::from(self.has_replicas()?);
        let options = WriteOptions {
            confirm_replicas: confirm,
            ..WriteOptions::default()
        };
        let target = self.target().await?;
        let report = self.ledger()?.write(&target, &options).await?;
        TrialError::unless_kept(incomplete(&report, confirm > 0))
    }

    fn has_replicas(&self) -> Result<bool, TrialError> {
        let values = self.installed_values()?;
        Ok(values.mode == manifests::Mode::Cluster && values.cluster.replicas_per_primary > 0)
    }

    async fn target(&self) -> Result<Target, TrialError> {
        let pods = self
            .server_pods()
            .await?
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        Ok(Target::new(self.dialer(), self.passwords.clone(), pods))
    }

    pub(super) fn evidence_folder(&self) -> PathBuf {
        self.environment().evidence.join(self.id().folder())
    }
}

/// What a healthy release does not do: refuse a write, leave it unanswered, or not replicate it.
fn incomplete(report: &WriteReport, replicated: bool) -> Vec<Violation> {
    let confirmed = if replicated { report.confirmed } else { KEYS };
    if report.acknowledged == KEYS && confirmed == KEYS {
        return Vec::new();
    }
    let expected = if replicated {
        "to be acknowledged, and confirmed by a replica"
    } else {
        "to be acknowledged"
    };
    let seen = format!(
        "{} acknowledged, {} confirmed",
        report.acknowledged, report.confirmed
    );
    let subject = format!("{KEYS} writes over every slot");
    let problems = report.refused.iter().chain(&report.unknown);
    let violation = Violation::new("data", subject, expected, seen);
    vec![problems.fold(violation, |violation, (cause, count)| {
        violation.with_evidence(format!("{count} times: {cause}"))
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_no_replica_confirmed_counts_only_where_there_are_replicas() {
        let mut report = WriteReport {
            acknowledged: KEYS,
            confirmed: KEYS - 3,
            ..WriteReport::default()
        };
        assert_eq!(incomplete(&report, false), []);
        assert_eq!(incomplete(&report, true).len(), 1);
        report.acknowledged -= 1;
        report.refused.insert("OOM".to_owned(), 1);
        let found = incomplete(&report, false);
        assert_eq!(found[0].seen, "32767 acknowledged, 32765 confirmed");
        assert_eq!(found[0].evidence, ["1 times: OOM"]);
    }
}
