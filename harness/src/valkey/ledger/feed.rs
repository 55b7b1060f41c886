//! Keys that wait to be sent, grouped by the pod they go to.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::super::slot_map::SlotMap;
use super::super::slots::{SLOT_COUNT, SlotSet};
use super::spec::LedgerSpec;

/// Keys that wait to be sent to one pod.
pub(super) struct Feed {
    /// Empty when nobody is known to own the slots.
    pub(super) pod: String,
    /// Whether the pod is to be asked for keys of a slot that is not its own yet.
    pub(super) asking: bool,
    pub(super) keys: Mutex<Keys>,
}

/// A range is walked row by row (one key per slot and row), so that neighbours in the journal go together.
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
    /// The next key.
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

/// All keys, each for the owner of its slot.
pub(super) fn first_feeds(spec: &LedgerSpec, map: &SlotMap) -> Vec<Feed> {
    let owners = map.owners();
    let mut feeds: Vec<Feed> = owners
        .iter()
        .map(|(pod, slots)| range_feed(spec, pod, slots))
        .collect();
    // Slots without a known owner are kept under an empty pod name, which the next round looks up again.
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

/// Keys that were not executed, for the owners of their slots now, and those that another pod has already, by pod.
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
