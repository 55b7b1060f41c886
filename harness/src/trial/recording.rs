//! What a scenario puts into the report beside its outcome.
//!
//! | recorded | by whom |
//! |---|---|
//! | values that differ from the combination's | `install`, `upgrade` |
//! | promises kept, slot maps of every node | `healthy`, and every `verify…` |
//! | violations, and the slot map at the end | the trial's own end, when it fails |
//! | what a background load met | the scenario: [`Context::record_availability`] |
//! | what became of the keys | the scenario: [`Context::record_ledger`] |
//! | promises that a verb of its own asserts | the verb: [`Context::record_kept`] |
//!
//! ```no_run
//! # use harness::{trial::Context, valkey::{ledger::Verification, load::LoadReport}};
//! # fn story(context: &mut Context, load: &LoadReport, keys: &Verification) {
//! context.record_availability("scale 6 → 8", load);
//! context.record_ledger("scale 6 → 8", keys);
//! context.record_kept(["data"]);
//! # }
//! ```

use manifests::Values;

use super::context::Context;
use crate::report::deployment::{changes, without_secrets};
use crate::report::record::{Availability, KeyFates, SlotMapReport};
use crate::valkey::ClusterObservation;
use crate::valkey::ledger::Verification;
use crate::valkey::load::LoadReport;

impl Context {
    /// Puts what a background load met during `what` into the report.
    pub fn record_availability(&mut self, what: &str, load: &LoadReport) {
        let timeline = self.timeline().clone();
        let availability = Availability::new(what, load, |moment| timeline.at_ms(moment));
        self.record.availability.push(availability);
    }

    /// Puts what became of a ledger's keys after `what` into the report.
    pub fn record_ledger(&mut self, what: &str, verification: &Verification) {
        let fates = KeyFates::new(what, self.timeline().elapsed_ms(), verification);
        self.record.ledgers.push(fates);
    }

    /// Puts who owns which slots after `what`, in the eyes of every node, into the report. `healthy` does so by itself.
    pub fn record_slot_map(&mut self, what: &str, seen: &ClusterObservation) {
        let at_ms = self.timeline().elapsed_ms();
        self.record
            .slot_maps
            .extend(SlotMapReport::new(what, at_ms, seen));
    }

    /// Notes that these promises, by the names of their checks, were looked at and kept. What was broken, the trial's
    /// error says.
    pub fn record_kept<'a>(&mut self, checks: impl IntoIterator<Item = &'a str>) {
        self.record.kept(checks);
    }

    /// Notes in which values the release differs from its combination.
    pub(super) fn record_values(&mut self, values: &Values) {
        let found = changes(&without_secrets(&self.values()), &without_secrets(values));
        self.record.values.extend(found);
    }
}
