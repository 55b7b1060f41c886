//! The trial's data: a ledger over every slot. The ledger is on disk while the trial runs. It
//! becomes evidence if the trial fails.

use std::path::PathBuf;

use kube::ResourceExt;

use super::context::Context;
use super::error::TrialError;
use crate::checks::{Violation, replication};
use crate::timeline::EntryKind;
use crate::valkey::ledger::{
    self, Ledger, LedgerServers, LedgerSpec, Mix, Verification, VerifyOptions, WriteOptions, WriteReport,
};
use crate::valkey::load::Load;
use crate::valkey::slots::SLOT_COUNT;

/// Two keys in each slot. Every type, size and lifetime occurs on every shard, and the keys are
/// written in a fraction of a second.
const KEYS: u64 = 2 * SLOT_COUNT as u64;

/// The folder of the ledger, within the trial's evidence.
const FOLDER: &str = "ledger";

/// The keys that one trial writes.
#[derive(Default)]
pub struct TrialData {
    ledger: Option<Ledger>,
    /// The fate of every key at the last verification.
    accounted: Option<Verification>,
    pub(super) load: Option<Load>,
    /// Number of loads started so far.
    pub(super) loads: u32,
}

impl TrialData {
    /// Returns the trial's ledger.
    pub fn ledger(&self) -> Result<&Ledger, TrialError> {
        self.ledger.as_ref().ok_or(TrialError::NoData)
    }

    /// Returns the fate of every key at the last verification, if there was one.
    pub fn accounted(&self) -> Option<&Verification> {
        self.accounted.as_ref()
    }
}

impl Context {
    /// Writes keys into every slot. A further call writes the next generation. Each write must be
    /// acknowledged, and confirmed by a replica if there are replicas.
    pub async fn write_data(&mut self) -> Result<(), TrialError> {
        self.recorder
            .steps
            .clone()
            .run("write data into every slot", self.write_generation())
            .await
    }

    /// Reads every key back. Each must have its last acknowledged value. Replicas must have all
    /// data of their primaries. Nothing may write meanwhile.
    pub async fn verify_data(&mut self) -> Result<(), TrialError> {
        let steps = self.recorder.steps.clone();
        let violations = steps.judge("account for every key", self.account()).await?;
        self.recorder.note_broken(violations);
        self.recorder.kept([ledger::report::CHECK]);
        if self.has_replicas()? {
            steps
                .run("compare replicas with their primaries", self.replicas_caught_up())
                .await
                .or_else(|error| self.recorder.note_unhealthy(error))?;
        }
        Ok(())
    }

    async fn account(&mut self) -> Result<Vec<Violation>, TrialError> {
        let found = self.read_data().await?;
        self.recorder.key_fates(&self.recorder.steps.last(), &found);
        let violations = found.violations(0);
        self.state_shift(found.furthest_shift_ms);
        self.data.accounted = Some(found);
        Ok(violations)
    }

    /// Reads every key back, and returns the fate of each.
    pub async fn read_data(&self) -> Result<Verification, TrialError> {
        let target = self.target().await?;
        let ledger = self.data.ledger.as_ref().ok_or(TrialError::NoData)?;
        Ok(ledger.verify(&target, &VerifyOptions::default()).await)
    }

    /// Records the furthest shift of a key's expiry. Moving keys one by one causes the shift. It is
    /// not a corruption.
    fn state_shift(&mut self, shift_ms: i64) {
        if shift_ms == 0 {
            return;
        }
        let text = format!("keys that were moved expire up to {shift_ms} ms later than written");
        self.timeline().record(EntryKind::Note, "data", text);
        #[expect(clippy::cast_precision_loss, reason = "a shift is a few seconds at most")]
        self.recorder.measure("furthest_expiry_shift_ms", shift_ms as f64);
    }

    /// Removes the records of writes after a trial that passed.
    pub(crate) fn discard_data(&mut self) -> std::io::Result<()> {
        if self.data.ledger.take().is_none() && self.data.loads == 0 {
            return Ok(());
        }
        std::fs::remove_dir_all(self.evidence_folder())
    }

    async fn write_generation(&mut self) -> Result<(), TrialError> {
        if self.data.ledger.is_none() {
            let spec = LedgerSpec {
                label: "data".to_owned(),
                seed: self.environment().seed,
                keys: KEYS,
                mix: Mix::Varied,
                base_ms: jiff::Timestamp::now().as_millisecond(),
            };
            self.data.ledger = Some(Ledger::create(&self.evidence_folder().join(FOLDER), spec)?);
        }
        // Replicas that are known not to follow confirm nothing.
        let confirm = u32::from(self.has_replicas()? && !self.recorder.has_noted(replication::NAME));
        let options = WriteOptions {
            confirm_replicas: confirm,
            ..WriteOptions::default()
        };
        let target = self.target().await?;
        let report = self.data.ledger()?.write(&target, &options).await?;
        TrialError::unless_kept(incomplete(&report, confirm > 0))
    }

    fn has_replicas(&self) -> Result<bool, TrialError> {
        let values = self.deployment.values()?;
        Ok(values.mode == manifests::Mode::Cluster && values.cluster.replicas_per_primary > 0)
    }

    async fn target(&self) -> Result<LedgerServers, TrialError> {
        let pods = self
            .server_pods()
            .await?
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        Ok(LedgerServers::new(
            self.dialer(),
            self.credentials.passwords.clone(),
            pods,
        ))
    }

    pub(super) fn evidence_folder(&self) -> PathBuf {
        self.environment().evidence.join(self.id().folder())
    }
}

/// Finds writes that a healthy release would have handled: refused, unanswered, or not replicated.
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
    fn an_unconfirmed_write_counts_only_where_replicas_exist() {
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
