//! The result of a load, per shard, and its violations.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::slots::SlotSet;
use super::account::Account;
use findings::Violation;

/// The check that violations about data belong to.
pub const DATA: &str = "load";

/// The check that violations about gaps belong to.
pub const AVAILABILITY: &str = "availability";

/// The result of the load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// The time when the load began.
    pub started_at: Timestamp,
    /// Duration of the load.
    pub duration: Duration,
    /// The shards, by the pod that owned the slots at the start.
    pub shards: BTreeMap<String, ShardReport>,
    /// The error that ended the recording of the writes, if any.
    #[serde(default)]
    pub unrecorded: Option<String>,
}

/// The result of the load in one shard: a set of slots, wherever they went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardReport {
    /// The slots of the shard at the start.
    pub slots: SlotSet,
    /// The longest time without a successful write by any of the shard's writers. The times before
    /// the first and after the last success count.
    pub longest_gap: Duration,
    /// The time when that gap began.
    pub gap_began_at: Timestamp,
    /// The shard's writers, by key.
    pub writers: Vec<WriterReport>,
}

/// The fates of one writer's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriterReport {
    /// The writer's key.
    pub key: String,
    /// The key's slot.
    pub slot: u16,
    /// Attempted numbers.
    pub attempted: u64,
    /// Acknowledged.
    pub acknowledged: u64,
    /// Acknowledged numbers that a replica confirmed.
    pub confirmed: u64,
    /// Sent, without an answer.
    pub unknown: u64,
    /// Permanently refused, or given up when the load was stopped.
    pub not_executed: u64,
    /// Obstacles, with the number of times each occurred.
    pub obstacles: BTreeMap<String, u64>,
    /// The account of the writer's list, or the reason why it could not be read.
    pub account: Result<Account, String>,
}

/// The limits of tolerated losses and gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBudget {
    /// Acknowledged but unconfirmed writes that may be lost, per shard.
    pub unconfirmed_losses: u64,
    /// The longest gap without a successful write, per shard.
    pub longest_gap: Duration,
}

impl LoadReport {
    /// Returns the longest gap of any shard, with the shard's name.
    pub fn worst_gap(&self) -> Option<(&str, Duration)> {
        let worst = self.shards.iter().max_by_key(|(_, shard)| shard.longest_gap)?;
        Some((worst.0, worst.1.longest_gap))
    }

    /// Returns the number of acknowledged writes of all shards.
    pub fn acknowledged(&self) -> u64 {
        self.shards
            .values()
            .flat_map(|shard| &shard.writers)
            .map(|writer| writer.acknowledged)
            .sum()
    }

    /// Returns the broken promises and the violations of the budget.
    pub fn violations(&self, budget: &LoadBudget) -> Vec<Violation> {
        let mut violations = Vec::new();
        if let Some(cause) = &self.unrecorded {
            violations.push(Violation::new(DATA, "the load", "every outcome recorded", cause));
        }
        if self.acknowledged() == 0 {
            violations.push(Violation::new(
                AVAILABILITY,
                "the load",
                "successful writes",
                "none",
            ));
        }
        for (pod, shard) in &self.shards {
            let subject = format!("shard of {pod}, slots {}", shard.slots.summary());
            if shard.longest_gap > budget.longest_gap {
                let expected = format!("no gap longer than {:?}", budget.longest_gap);
                let seen = format!(
                    "{:?} without a write, from {}",
                    shard.longest_gap, shard.gap_began_at
                );
                let mut violation = Violation::new(AVAILABILITY, &subject, expected, seen);
                for (obstacle, count) in shard.obstacles() {
                    violation = violation.with_evidence(format!("{obstacle}: {count} times"));
                }
                violations.push(violation);
            }
            violations.extend(shard.data_violations(&subject, budget));
        }
        violations
    }
}

impl ShardReport {
    /// Returns the obstacles of the shard's writers, with the number of times each occurred.
    pub fn obstacles(&self) -> BTreeMap<&str, u64> {
        let mut all: BTreeMap<&str, u64> = BTreeMap::new();
        for (obstacle, count) in self.writers.iter().flat_map(|writer| &writer.obstacles) {
            *all.entry(obstacle).or_default() += count;
        }
        all
    }

    /// Returns the number of acknowledged writes that are gone without a replica's confirmation.
    pub fn unconfirmed_losses(&self) -> u64 {
        let accounts = self
            .writers
            .iter()
            .filter_map(|writer| writer.account.as_ref().ok());
        accounts
            .map(|account| account.lost_unconfirmed.len() as u64)
            .sum()
    }

    fn data_violations(&self, subject: &str, budget: &LoadBudget) -> Vec<Violation> {
        let mut violations = Vec::new();
        let lost = self.unconfirmed_losses();
        if lost > budget.unconfirmed_losses {
            let expected = format!(
                "at most {} unconfirmed acknowledged writes lost",
                budget.unconfirmed_losses
            );
            violations.push(Violation::new(DATA, subject, expected, lost.to_string()));
        }
        for writer in &self.writers {
            let subject = format!("key {} in slot {}", writer.key, writer.slot);
            let account = match &writer.account {
                Ok(account) => account,
                Err(cause) => {
                    violations.push(Violation::new(DATA, subject, "a list to be readable", cause));
                    continue;
                }
            };
            let findings = [
                (
                    "every write that a replica confirmed",
                    format!(
                        "{} lost: {}",
                        account.lost_confirmed.len(),
                        runs(&account.lost_confirmed)
                    ),
                    account.lost_confirmed.is_empty(),
                ),
                (
                    "each write once",
                    format!("duplicates {}", runs(account.duplicates.keys())),
                    account.duplicates.is_empty(),
                ),
                (
                    "writes in their order",
                    format!("out of order {}", runs(&account.out_of_order)),
                    account.out_of_order.is_empty(),
                ),
                (
                    "nothing that was refused",
                    format!("phantoms {}", runs(&account.phantoms)),
                    account.phantoms.is_empty(),
                ),
            ];
            for (expected, seen, _) in findings.into_iter().filter(|finding| !finding.2) {
                violations.push(Violation::new(DATA, &subject, expected, seen));
            }
        }
        violations
    }
}

/// Renders ascending numbers as runs such as `1, 4-322`. Shows only the first few runs.
fn runs<'a>(numbers: impl IntoIterator<Item = &'a u64>) -> String {
    const SHOWN: usize = 8;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |&(first, last): &(u64, u64)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let more = if runs.len() > SHOWN { ", …" } else { "" };
    let shown: Vec<String> = runs.iter().take(SHOWN).map(text).collect();
    format!("{}{more}", shown.join(", "))
}

/// Returns the longest time without a success of any writer, and its beginning. Both ends of the
/// load count.
pub(super) fn gaps<'a>(
    writers: impl Iterator<Item = &'a [Duration]>,
    stopped: Duration,
) -> (Duration, Duration) {
    let mut times: Vec<Duration> = writers.flatten().copied().collect();
    times.sort_unstable();
    times.push(stopped);
    let mut longest = (Duration::ZERO, Duration::ZERO);
    let mut last = Duration::ZERO;
    for time in times {
        let gap = time.saturating_sub(last);
        if gap > longest.0 {
            longest = (gap, last);
        }
        last = last.max(time);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_gap_is_one_that_no_writer_fills() {
        let (one, two) = ([ms(10), ms(500)], [ms(200), ms(900)]);
        assert_eq!(
            gaps([&one[..], &two[..]].into_iter(), ms(1000)),
            (ms(400), ms(500))
        );
        assert_eq!(
            gaps([&one[..]].into_iter(), ms(2000)),
            (ms(1500), ms(500)),
            "the end counts"
        );
        assert_eq!(
            gaps([&[][..]].into_iter(), ms(700)),
            (ms(700), ms(0)),
            "nothing succeeded at all"
        );
    }

    #[test]
    fn many_numbers_are_told_in_few_words() {
        assert_eq!(runs(&[1, 4, 5, 6, 9]), "1, 4-6, 9");
        let scattered: Vec<u64> = (0..20).map(|number| number * 2).collect();
        assert_eq!(runs(&scattered), "0, 2, 4, 6, 8, 10, 12, 14, …");
    }

    fn report(account: Account) -> LoadReport {
        let writer = WriterReport {
            key: "load:{x}:0".to_owned(),
            slot: 7,
            attempted: 9,
            acknowledged: 9,
            confirmed: 2,
            unknown: 0,
            not_executed: 0,
            obstacles: BTreeMap::from([("CLUSTERDOWN".to_owned(), 12)]),
            account: Ok(account),
        };
        let shard = ShardReport {
            slots: SlotSet::full(),
            longest_gap: ms(3000),
            gap_began_at: Timestamp::UNIX_EPOCH,
            writers: vec![writer],
        };
        LoadReport {
            started_at: Timestamp::UNIX_EPOCH,
            duration: ms(10_000),
            shards: BTreeMap::from([("valkey-0".to_owned(), shard)]),
            unrecorded: None,
        }
    }

    const BUDGET: LoadBudget = LoadBudget {
        unconfirmed_losses: 1,
        longest_gap: ms(5000),
    };

    #[test]
    fn the_budget_allows_unconfirmed_losses_and_no_confirmed_ones() {
        let mut account = Account {
            lost_unconfirmed: [4].into(),
            ..Account::default()
        };
        assert_eq!(report(account.clone()).violations(&BUDGET), []);
        account.lost_unconfirmed.insert(5);
        assert_eq!(report(account).violations(&BUDGET)[0].seen, "2");
        let account = Account {
            lost_confirmed: [3].into(),
            ..Account::default()
        };
        let violations = report(account).violations(&BUDGET);
        assert_eq!(
            violations[0].to_string(),
            "load: key load:{x}:0 in slot 7: expected every write that a replica confirmed, saw 1 lost: 3"
        );
    }

    #[test]
    fn a_gap_is_reported_with_its_obstacles() {
        let strict = LoadBudget {
            longest_gap: ms(1000),
            ..BUDGET
        };
        let violations = report(Account::default()).violations(&strict);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].evidence, ["CLUSTERDOWN: 12 times"]);
        assert!(
            violations[0].seen.starts_with("3s without a write, from 1970"),
            "{}",
            violations[0].seen
        );
    }
}
