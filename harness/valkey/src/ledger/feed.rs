//! Keys that wait to be sent, grouped by destination pod.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::super::slot_map::SlotMap;
use super::super::slots::{SLOT_COUNT, SlotSet};
use super::spec::LedgerSpec;

/// Keys that wait to be sent to one pod.
pub(super) struct Feed {
    /// Empty if the slots have no known owner.
    pub(super) pod: String,
    /// True if the pod needs ASKING, as it does not own the slot yet.
    pub(super) asking: bool,
    pub(super) keys: Mutex<Keys>,
}

/// The waiting keys. A range is walked row by row (one key per slot and row), which keeps
/// neighbours in the journal together.
pub(super) enum Keys {
    Range {
        slots: Vec<u16>,
        row: u64,
        next: usize,
        count: u64,
    },
    List {
        indexes: Vec<u64>,
        next: usize,
    },
}

impl Keys {
    /// Takes the next key.
    pub(super) fn take_one(&mut self) -> Option<u64> {
        match self {
            Self::List { indexes, next } => {
                let index = *indexes.get(*next)?;
                *next += 1;
                Some(index)
            }
            Self::Range {
                slots,
                row,
                next,
                count,
            } => loop {
                let Some(&slot) = slots.get(*next) else {
                    *next = 0;
                    *row += 1;
                    if slots.is_empty() || *row * u64::from(SLOT_COUNT) >= *count {
                        slots.clear();
                        return None;
                    }
                    continue;
                };
                *next += 1;
                let index = *row * u64::from(SLOT_COUNT) + u64::from(slot);
                if index < *count {
                    return Some(index);
                }
            },
        }
    }
}

/// Returns all keys, grouped by the owner of their slot.
pub(super) fn first_feeds(spec: &LedgerSpec, map: &SlotMap) -> Vec<Feed> {
    let owners = map.owners();
    let mut feeds: Vec<Feed> = owners
        .iter()
        .map(|(pod, slots)| range_feed(spec, pod, slots))
        .collect();
    // Slots without a known owner get an empty pod name. The next round looks for their owners
    // again.
    let owned: SlotSet = owners.values().flat_map(SlotSet::iter).collect();
    let orphans = SlotSet::full().difference(&owned);
    if !orphans.is_empty() {
        feeds.push(range_feed(spec, "", &orphans));
    }
    feeds
}

fn range_feed(spec: &LedgerSpec, pod: &str, slots: &SlotSet) -> Feed {
    let keys = Keys::Range {
        slots: slots.iter().collect(),
        row: 0,
        next: 0,
        count: spec.keys,
    };
    Feed {
        pod: pod.to_owned(),
        asking: false,
        keys: Mutex::new(keys),
    }
}

/// Groups keys that were not executed by the present owners of their slots. `ask` holds keys that
/// another pod already has, by pod.
pub(super) fn next_feeds(
    spec: &LedgerSpec,
    map: &SlotMap,
    again: Vec<u64>,
    ask: BTreeMap<String, Vec<u64>>,
) -> Vec<Feed> {
    let mut groups: BTreeMap<(String, bool), Vec<u64>> = BTreeMap::new();
    for index in again {
        let pod = map.owner(spec.slot(index)).unwrap_or_default();
        groups.entry((pod.to_owned(), false)).or_default().push(index);
    }
    for (pod, indexes) in ask {
        groups.entry((pod, true)).or_default().extend(indexes);
    }
    groups
        .into_iter()
        .map(|((pod, asking), mut indexes)| {
            indexes.sort_unstable();
            Feed {
                pod,
                asking,
                keys: Mutex::new(Keys::List { indexes, next: 0 }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_walked_row_by_row_and_ends_with_the_keys() {
        let count = u64::from(SLOT_COUNT) * 2 + 2;
        let mut keys = Keys::Range {
            slots: vec![0, 1, 5],
            row: 0,
            next: 0,
            count,
        };
        let all: Vec<u64> = std::iter::from_fn(|| keys.take_one()).collect();
        assert_eq!(all, [0, 1, 5, 16384, 16385, 16389, 32768, 32769]);
        assert_eq!(keys.take_one(), None);
    }
}
