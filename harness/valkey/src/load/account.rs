//! The comparison of a writer's list with its writes. Pure code.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The fates of the numbers that a writer sent, from its own point of view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Acknowledged.
    pub acknowledged: BTreeSet<u64>,
    /// Acknowledged numbers that a replica confirmed.
    pub confirmed: BTreeSet<u64>,
    /// Sent, without an answer.
    pub unknown: BTreeSet<u64>,
    /// Permanently refused and not executed.
    pub refused: BTreeSet<u64>,
}

/// The true fates of the numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Acknowledged and confirmed by a replica, but missing.
    pub lost_confirmed: BTreeSet<u64>,
    /// Only acknowledged, and missing.
    pub lost_unconfirmed: BTreeSet<u64>,
    /// Runs of lost numbers followed by the writer's later numbers: the list was rolled back.
    pub rollbacks: Vec<(u64, u64)>,
    /// Numbers that occur more than once.
    pub duplicates: BTreeMap<u64, u64>,
    /// Numbers that come after a higher one.
    pub out_of_order: BTreeSet<u64>,
    /// Numbers that exist although refused or never sent.
    pub phantoms: BTreeSet<u64>,
    /// Number of unknown outcomes that proved to be executed.
    pub unknown_executed: u64,
}

/// Compares a writer's outcomes with the list that it left.
pub fn judge(outcomes: &Outcomes, list: &[u64]) -> Account {
    let mut account = Account::default();
    let mut times: BTreeMap<u64, u64> = BTreeMap::new();
    let mut highest = 0;
    for &number in list {
        *times.entry(number).or_default() += 1;
        if number < highest && times[&number] == 1 {
            account.out_of_order.insert(number);
        }
        highest = highest.max(number);
    }
    for (&number, &count) in &times {
        if count > 1 {
            account.duplicates.insert(number, count);
        }
        if outcomes.unknown.contains(&number) {
            account.unknown_executed += 1;
        } else if !outcomes.acknowledged.contains(&number) {
            account.phantoms.insert(number);
        }
    }
    let mut run: Option<(u64, u64)> = None;
    for &number in &outcomes.acknowledged {
        if times.contains_key(&number) {
            account.rollbacks.extend(run.take());
            continue;
        }
        run = Some((run.map_or(number, |(first, _)| first), number));
        if outcomes.confirmed.contains(&number) {
            account.lost_confirmed.insert(number);
        } else {
            account.lost_unconfirmed.insert(number);
        }
    }
    // A loss at the very end has no later numbers, so it is no rollback.
    account
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(acknowledged: impl IntoIterator<Item = u64>) -> Outcomes {
        Outcomes {
            acknowledged: acknowledged.into_iter().collect(),
            ..Outcomes::default()
        }
    }

    #[test]
    fn a_complete_list_has_nothing_to_report() {
        assert_eq!(judge(&outcomes(1..=5), &[1, 2, 3, 4, 5]), Account::default());
    }

    #[test]
    fn lost_numbers_are_told_by_their_confirmation() {
        let mut outcomes = outcomes(1..=6);
        outcomes.confirmed = [3].into();
        let account = judge(&outcomes, &[1, 2, 5, 6]);
        assert_eq!(account.lost_confirmed, [3].into());
        assert_eq!(account.lost_unconfirmed, [4].into());
        assert_eq!(account.rollbacks, [(3, 4)], "later numbers were written upon it");
        assert_eq!(judge(&outcomes, &[1, 2, 3, 4]).rollbacks, [], "a lost tail");
    }

    #[test]
    fn unknown_outcomes_may_be_there_or_not() {
        let mut outcomes = outcomes([1, 3]);
        outcomes.unknown = [2, 4].into();
        assert_eq!(
            judge(&outcomes, &[1, 2, 3]),
            Account {
                unknown_executed: 1,
                ..Account::default()
            }
        );
    }

    #[test]
    fn duplicates_disorder_and_phantoms_are_named() {
        let mut outcomes = outcomes(1..=4);
        outcomes.refused = [5].into();
        let account = judge(&outcomes, &[1, 3, 2, 2, 4, 5]);
        assert_eq!(account.duplicates, [(2, 2)].into());
        assert_eq!(account.out_of_order, [2].into());
        assert_eq!(account.phantoms, [5].into());
    }
}
