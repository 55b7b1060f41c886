//! The results of writing and verifying a ledger, and their violations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::slots::{SLOT_COUNT, SlotSet, key_slot};
use super::classify::Class;
use super::ledger_file::Record;
use super::spec::LedgerSpec;
use findings::Violation;

/// The check that these violations belong to.
pub const CHECK: &str = "data";

/// Number of keys of a class that are named; the rest is counted.
const NAMED: usize = 20;

/// The result of writing a generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteReport {
    /// The generation, from 1.
    pub generation: u8,
    /// Keys with an acknowledged write.
    pub acknowledged: u64,
    /// Acknowledged keys that replicas confirmed.
    pub confirmed: u64,
    /// Keys with a refused write, by the error's code or the last obstacle.
    pub refused: BTreeMap<String, u64>,
    /// Keys with an unanswered write, by pod and cause.
    pub unknown: BTreeMap<String, u64>,
    /// Duration of the write.
    pub elapsed: Duration,
}

/// The fate of every key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Keys by class.
    pub counts: BTreeMap<Class, u64>,
    /// For classes that must not occur: their slots and some of their keys.
    pub findings: BTreeMap<Class, Finding>,
    /// Number of lost, stale or early expired keys that replicas had confirmed.
    pub confirmed_gone: u64,
    /// Unconfirmed keys that are lost, stale or expired early: a failover may lose them by design.
    pub unconfirmed_gone: u64,
    /// The slots by class and by the pod that owned them at the time of the write.
    pub former_owners: BTreeMap<Class, BTreeMap<String, SlotSet>>,
    /// The slots of keys that could not be read, by cause.
    pub unverified: BTreeMap<String, BTreeSet<u16>>,
    /// Pods that could not be searched for phantoms, with the reasons.
    pub unscanned: BTreeMap<String, String>,
    /// The largest shift of an expiry from the written one, in milliseconds. Moving keys one by one
    /// causes it.
    #[serde(default)]
    pub furthest_shift_ms: i64,
    /// Duration of the verification.
    pub elapsed: Duration,
    /// Slots in which some key was found.
    #[serde(skip)]
    inhabited: BTreeSet<u16>,
    /// Keys that are gone before their time, by slot.
    #[serde(skip)]
    early: BTreeMap<u16, u64>,
}

/// The location of a class's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The slots of the keys.
    pub slots: BTreeSet<u16>,
    /// Some of the keys, by name.
    pub examples: Vec<String>,
}

impl Verification {
    /// Notes the shift of one key's expiry from the written one.
    pub(super) fn note_shift(&mut self, shift_ms: i64) {
        if shift_ms.abs() > self.furthest_shift_ms.abs() {
            self.furthest_shift_ms = shift_ms;
        }
    }

    /// Counts key `index`, which holds generation `held` (0 if it holds none).
    pub(super) fn count(&mut self, spec: &LedgerSpec, index: u64, class: Class, record: Record, held: u8) {
        *self.counts.entry(class).or_default() += 1;
        match class {
            Class::Lost | Class::Expired | Class::Unwritten => {}
            Class::ExpiredEarly => *self.early.entry(spec.slot(index)).or_default() += 1,
            _ => {
                self.inhabited.insert(spec.slot(index));
            }
        }
        if !class.is_violation() {
            return;
        }
        if matches!(class, Class::Lost | Class::Stale | Class::ExpiredEarly) {
            // A replica had a newer generation than the key holds now.
            if record.confirmed > held {
                self.confirmed_gone += 1;
            } else {
                self.unconfirmed_gone += 1;
            }
        }
        let finding = self.findings.entry(class).or_default();
        finding.slots.insert(spec.slot(index));
        if finding.examples.len() < NAMED {
            finding.examples.push(spec.key(index));
        }
    }

    pub(super) fn phantom_name(&mut self, name: &[u8]) {
        *self.counts.entry(Class::Phantom).or_default() += 1;
        let finding = self.findings.entry(Class::Phantom).or_default();
        finding.slots.insert(key_slot(name));
        if finding.examples.len() < NAMED {
            finding.examples.push(String::from_utf8_lossy(name).into_owned());
        }
    }

    /// Draws the conclusions that need all keys. Keys lost with their slot did not expire. The
    /// former owners of affected slots are recorded.
    pub(super) fn finish(&mut self, owners: &BTreeMap<String, SlotSet>) {
        self.reclassify_expired();
        for (class, finding) in &self.findings {
            let slots: SlotSet = finding.slots.iter().copied().collect();
            for (pod, owned) in owners {
                let theirs = slots.intersection(owned);
                if !theirs.is_empty() {
                    self.former_owners
                        .entry(*class)
                        .or_default()
                        .insert(pod.clone(), theirs);
                }
            }
        }
    }

    /// Moves early expired keys to the lost ones if they were lost with their slot. Such a slot is
    /// empty, and next to it an immortal key is lost. The slot may be the first or the last of its
    /// range, and so have a neighbour that is whole.
    fn reclassify_expired(&mut self) {
        let Some(lost) = self
            .findings
            .get(&Class::Lost)
            .map(|finding| finding.slots.clone())
        else {
            return;
        };
        let verdict = |slot: &u16| match (lost.contains(slot), self.inhabited.contains(slot)) {
            (_, true) => Some(false),
            (true, false) => Some(true),
            (false, false) => None,
        };
        let among_the_lost = |slot: u16| {
            verdict(&slot) != Some(false)
                && [
                    (0..=slot).rev().find_map(|slot| verdict(&slot)),
                    (slot..SLOT_COUNT).find_map(|slot| verdict(&slot)),
                ]
                .contains(&Some(true))
        };
        let with_them: Vec<u16> = self
            .early
            .keys()
            .copied()
            .filter(|slot| among_the_lost(*slot))
            .collect();
        for slot in with_them {
            let keys = self.early.remove(&slot).unwrap_or(0);
            *self.counts.entry(Class::Lost).or_default() += keys;
            *self.counts.entry(Class::ExpiredEarly).or_default() -= keys;
            self.findings.entry(Class::Lost).or_default().slots.insert(slot);
            if let Some(finding) = self.findings.get_mut(&Class::ExpiredEarly) {
                finding.slots.remove(&slot);
                finding.examples.retain(|name| key_slot(name.as_bytes()) != slot);
            }
        }
        self.findings.retain(|_, finding| !finding.slots.is_empty());
        self.counts.retain(|_, count| *count > 0);
    }

    /// Returns the number of keys of this class.
    pub fn of(&self, class: Class) -> u64 {
        self.counts.get(&class).copied().unwrap_or(0)
    }

    /// Returns the broken promises. Allows `budget` unconfirmed keys to be gone, as Valkey's
    /// replication is asynchronous. Reports unreadable keys as such, and never as lost.
    pub fn violations(&self, budget: u64) -> Vec<Violation> {
        let within_budget = self.confirmed_gone == 0 && self.unconfirmed_gone <= budget;
        let mut violations = Vec::new();
        for (class, finding) in &self.findings {
            let gone = matches!(class, Class::Lost | Class::Stale | Class::ExpiredEarly);
            if gone && within_budget {
                continue;
            }
            violations.push(self.violation(*class, finding, gone.then_some(budget)));
        }
        for (cause, slots) in &self.unverified {
            let set: SlotSet = slots.iter().copied().collect();
            violations.push(Violation::new(
                CHECK,
                format!("slots {} ({})", set.summary(), set.len()),
                "to be readable",
                format!("not verified: {cause}"),
            ));
        }
        for (pod, cause) in &self.unscanned {
            violations.push(Violation::new(CHECK, pod, "to be searched for phantoms", cause));
        }
        if self.counts.is_empty() {
            violations.push(Violation::new(CHECK, "the ledger", "keys", "none"));
        }
        violations
    }

    fn violation(&self, class: Class, finding: &Finding, budget: Option<u64>) -> Violation {
        let set: SlotSet = finding.slots.iter().copied().collect();
        let subject = format!("slots {} ({})", set.summary(), set.len());
        let mut seen = format!("{} keys {class}", self.of(class));
        if let Some(owners) = self.former_owners.get(&class) {
            let parts: Vec<String> = owners
                .iter()
                .map(|(pod, slots)| format!("{pod} had {}", slots.summary()))
                .collect();
            seen.push_str(&format!("; when they were written, {}", parts.join(", ")));
        }
        let expected = match budget {
            Some(budget) => format!("every acknowledged key (at most {budget} unconfirmed ones gone)"),
            None => format!("no key {class}"),
        };
        let mut violation = Violation::new(CHECK, subject, expected, seen);
        if budget.is_some() {
            violation = violation.with_evidence(format!(
                "{} of the gone keys had been confirmed by replicas, {} had not",
                self.confirmed_gone, self.unconfirmed_gone
            ));
        }
        violation.with_evidence(format!("for example {}", finding.examples.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::Mix;
    use super::*;

    fn spec() -> LedgerSpec {
        LedgerSpec {
            label: "t".to_owned(),
            seed: 7,
            keys: 40_000,
            mix: Mix::Plain,
            base_ms: 0,
        }
    }

    fn owners() -> BTreeMap<String, SlotSet> {
        let part = |text: &str| SlotSet::try_from(text.to_owned()).expect("slots");
        BTreeMap::from([
            ("valkey-0".to_owned(), part("0-8191")),
            ("valkey-1".to_owned(), part("8192-16383")),
        ])
    }

    fn record(confirmed: u8) -> Record {
        Record {
            attempted: 1,
            acknowledged: 1,
            confirmed,
            refused: 0,
        }
    }

    #[test]
    fn losses_are_named_by_slots_and_former_owner() {
        let mut verification = Verification::default();
        for index in 9000..9010 {
            verification.count(&spec(), index, Class::Lost, record(1), 0);
        }
        verification.count(&spec(), 5, Class::Intact, record(1), 0);
        verification.finish(&owners());
        let violations = verification.violations(0);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].subject, "slots 9000-9009 (10)");
        assert_eq!(
            violations[0].seen,
            "10 keys lost; when they were written, valkey-1 had 9000-9009"
        );
        assert_eq!(
            violations[0].evidence[0],
            "10 of the gone keys had been confirmed by replicas, 0 had not"
        );
    }

    #[test]
    fn only_unconfirmed_losses_count_against_the_budget() {
        let mut verification = Verification::default();
        verification.count(&spec(), 1, Class::Lost, record(0), 0);
        verification.count(&spec(), 2, Class::Stale, record(0), 0);
        verification.finish(&owners());
        assert_eq!(verification.violations(2), []);
        assert_eq!(verification.violations(1).len(), 2);
        verification.count(&spec(), 3, Class::Lost, record(1), 0);
        assert_eq!(verification.violations(99).len(), 2);
        assert_eq!(
            (verification.confirmed_gone, verification.unconfirmed_gone),
            (1, 2)
        );
    }

    #[test]
    fn what_counts_is_the_newest_generation_a_replica_had() {
        let second_unconfirmed = Record {
            attempted: 2,
            acknowledged: 2,
            confirmed: 1,
            refused: 0,
        };
        let mut verification = Verification::default();
        verification.count(&spec(), 1, Class::Stale, second_unconfirmed, 1);
        assert_eq!(
            verification.confirmed_gone, 0,
            "rolled back to what was confirmed"
        );
        verification.count(&spec(), 2, Class::Lost, second_unconfirmed, 0);
        assert_eq!(
            verification.confirmed_gone, 1,
            "the confirmed first generation is gone, too"
        );
    }

    #[test]
    fn a_mortal_key_lost_with_its_slot_did_not_expire_early() {
        let mut verification = Verification::default();
        verification.count(&spec(), 5, Class::Lost, record(1), 0);
        verification.count(&spec(), 5 + 16384, Class::ExpiredEarly, record(1), 0);
        verification.finish(&owners());
        assert_eq!(
            (verification.of(Class::Lost), verification.of(Class::ExpiredEarly)),
            (2, 0)
        );
    }

    #[test]
    fn a_mortal_key_at_the_edge_of_lost_slots_is_lost_with_them() {
        let mut verification = Verification::default();
        verification.count(&spec(), 3, Class::Intact, record(1), 1);
        verification.count(&spec(), 4, Class::ExpiredEarly, record(1), 0);
        verification.count(&spec(), 5, Class::Lost, record(1), 0);
        verification.count(&spec(), 6, Class::ExpiredEarly, record(1), 0);
        verification.count(&spec(), 7, Class::Intact, record(1), 1);
        verification.count(&spec(), 8, Class::ExpiredEarly, record(1), 0);
        verification.count(&spec(), 9, Class::Intact, record(1), 1);
        verification.finish(&owners());
        let slots = |class| verification.findings[&class].slots.clone();
        assert_eq!(slots(Class::Lost), BTreeSet::from([4, 5, 6]));
        assert_eq!(
            slots(Class::ExpiredEarly),
            BTreeSet::from([8]),
            "its neighbours are whole"
        );
    }

    #[test]
    fn what_could_not_be_read_is_reported_and_not_called_lost() {
        let mut verification = Verification::default();
        verification.counts.insert(Class::Unverified, 1);
        verification
            .unverified
            .entry("valkey-2: no answer within 10s".to_owned())
            .or_default()
            .insert(7);
        let violations = verification.violations(0);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].seen, "not verified: valkey-2: no answer within 10s");
        assert_eq!(
            Verification::default().violations(0).len(),
            1,
            "an empty ledger is never green"
        );
    }
}
