//! The contents of a trial's report, except for its outcome.
//!
//! | recorded | by whom |
//! |---|---|
//! | values that differ from the combination's | `install`, `upgrade` |
//! | promises kept, slot maps of every node | `healthy`, and every `verify…` |
//! | violations, and the slot map at the end | the trial's own end, when it fails |
//! | gaps and losses of a background load | the scenario: [`Recorder::availability`] |
//! | the fate of the keys | the scenario: [`Recorder::key_fates`] |
//! | promises that a separate verb asserts | the verb: [`Recorder::kept`] |
//! | promises that are broken while the scenario goes on | the verb: [`Recorder::note_broken`] |
//!
//! ```no_run
//! # use harness::{trial::Context, valkey::{ledger::Verification, load::LoadReport}};
//! # fn story(context: &mut Context, load: &LoadReport, keys: &Verification) {
//! context.recorder.availability("scale 6 → 8", load);
//! context.recorder.key_fates("scale 6 → 8", keys);
//! context.recorder.kept(["data"]);
//! # }
//! ```

use std::collections::BTreeMap;

use manifests::Values;

use super::error::TrialError;
use super::steps::Steps;
use crate::checks::Violation;
use crate::report::defect::normalised;
use crate::report::deployment::{changes, without_secrets};
use crate::report::record::{Availability, KeyFates, SlotMapReport};
use crate::report::{StepReport, TrialRecord};
use crate::timeline::Timeline;
use crate::valkey::ClusterObservation;
use crate::valkey::ledger::Verification;
use crate::valkey::load::LoadReport;

/// The record of one trial while it runs.
pub struct Recorder {
    timeline: Timeline,
    pub(super) steps: Steps,
    measurements: BTreeMap<String, f64>,
    record: TrialRecord,
    /// Broken promises on which no later act depends.
    noted: Noted,
}

/// Promises that were broken while the scenario went on.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    pub(crate) violations: Vec<Violation>,
    /// Observations of the release at these moments.
    pub(crate) observations: Vec<ClusterObservation>,
}

impl Recorder {
    /// Makes an empty record.
    pub(super) fn new(timeline: Timeline, steps: Steps) -> Self {
        Self {
            timeline,
            steps,
            measurements: BTreeMap::new(),
            record: TrialRecord::default(),
            noted: Noted::default(),
        }
    }

    /// Records the writers' gaps and losses during `what`.
    pub fn availability(&mut self, what: &str, load: &LoadReport) {
        let availability = Availability::new(what, load, |moment| self.timeline.at_ms(moment));
        self.record.availability.push(availability);
    }

    /// Records the fate of a ledger's keys after `what`.
    pub fn key_fates(&mut self, what: &str, verification: &Verification) {
        let fates = KeyFates::new(what, self.timeline.elapsed_ms(), verification);
        self.record.ledgers.push(fates);
    }

    /// Records the owner of each slot after `what`, from every node's point of view. `healthy`
    /// calls it.
    pub fn slot_map(&mut self, what: &str, seen: &ClusterObservation) {
        let at_ms = self.timeline.elapsed_ms();
        self.record
            .slot_maps
            .extend(SlotMapReport::new(what, at_ms, seen));
    }

    /// Records promises as checked and kept, by the names of their checks. The trial's error has
    /// the broken ones.
    pub fn kept<'a>(&mut self, checks: impl IntoIterator<Item = &'a str>) {
        let noted = |check: &&str| {
            self.noted
                .violations
                .iter()
                .any(|violation| violation.check == *check)
        };
        self.record.kept(checks.into_iter().filter(|check| !noted(check)));
    }

    /// Records a number under a name.
    pub fn measure(&mut self, name: impl Into<String>, value: f64) {
        self.measurements.insert(name.into(), value);
    }

    /// Notes broken promises and lets the scenario continue. Meant for promises on which no later
    /// act depends. The trial fails at its end.
    pub fn note_broken(&mut self, violations: Vec<Violation>) {
        for violation in violations {
            if !self.noted.violations.contains(&violation) {
                self.noted.violations.push(violation);
            }
        }
    }

    /// Keeps an observation that shows broken promises. A later act may mend them, and the cause
    /// must be recognised all the same.
    pub(super) fn note_observation(&mut self, seen: ClusterObservation) {
        self.noted.observations.push(seen);
    }

    /// Notes the broken promises of an error. Returns every other error.
    pub(super) fn note_unhealthy(&mut self, error: TrialError) -> Result<(), TrialError> {
        match error {
            TrialError::Unhealthy { violations, .. } => {
                self.note_broken(violations);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Returns true if this promise was noted as broken before. Later waits leave it out.
    pub(super) fn is_noted(&self, violation: &Violation) -> bool {
        let same = |noted: &Violation| {
            noted.check == violation.check
                && normalised(&noted.subject) == normalised(&violation.subject)
                && normalised(&noted.expected) == normalised(&violation.expected)
        };
        self.noted.violations.iter().any(same)
    }

    /// Returns true if a violation of this check was noted.
    pub(super) fn has_noted(&self, check: &str) -> bool {
        self.noted
            .violations
            .iter()
            .any(|violation| violation.check == check)
    }

    /// Records the differences between the release's values and those of its combination.
    pub(super) fn values(&mut self, combination: &Values, installed: &Values) {
        let found = changes(&without_secrets(combination), &without_secrets(installed));
        self.record.values.extend(found);
    }

    /// Takes the promises noted as broken.
    pub(crate) fn take_noted(&mut self) -> Noted {
        std::mem::take(&mut self.noted)
    }

    pub(crate) fn take_steps(&mut self) -> Vec<StepReport> {
        self.steps.take()
    }

    pub(crate) fn take_record(&mut self) -> TrialRecord {
        std::mem::take(&mut self.record)
    }

    pub(crate) fn take_measurements(&mut self) -> BTreeMap<String, f64> {
        std::mem::take(&mut self.measurements)
    }
}
