//! The 16384 hash slots of a Valkey Cluster: a key's slot, sets of slots, keys by slot.
//!
//! Source: Valkey Cluster specification, "Key distribution model" and "Hash tags".

use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// Number of hash slots of a cluster, fixed by the protocol.
pub const SLOT_COUNT: u16 = 16384;

/// Returns the slot of `key`: CRC16/XMODEM modulo 16384. A key with a non-empty hash tag is hashed
/// by the tag alone.
pub fn key_slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOT_COUNT
}

/// Returns the hashed part of `key`. This is the text between the first `{` and the next `}`, or
/// the whole key if that is empty.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

/// Computes CRC16/XMODEM: polynomial 0x1021, initial value 0, no reflection.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (crc << 8) ^ CRC_TABLE[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

const CRC_TABLE: [u16; 256] = crc_table();

const fn crc_table() -> [u16; 256] {
    let mut table = [0u16; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

/// Returns a tag that hashes to `slot`, three characters or fewer. `format!("anything:{{{tag}}}")`
/// is a key in that slot.
///
/// # Panics
/// When `slot` is not below [`SLOT_COUNT`].
pub fn tag_for_slot(slot: u16) -> &'static str {
    static TAGS: OnceLock<Vec<String>> = OnceLock::new();
    &TAGS.get_or_init(find_tags)[usize::from(slot)]
}

/// Returns a key in `slot`: its tag in braces.
///
/// # Panics
/// When `slot` is not below [`SLOT_COUNT`].
pub fn key_for_slot(slot: u16) -> String {
    format!("{{{}}}", tag_for_slot(slot))
}

/// Finds a tag for every slot among the base-36 numbers. This takes about 170 000 tries, a few
/// milliseconds.
fn find_tags() -> Vec<String> {
    const DIGITS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut tags = vec![String::new(); usize::from(SLOT_COUNT)];
    let mut missing = tags.len();
    for number in 0u32.. {
        let mut rest = number;
        let mut tag = String::new();
        loop {
            tag.push(char::from(DIGITS[(rest % 36) as usize]));
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        let entry = &mut tags[usize::from(key_slot(tag.as_bytes()))];
        if entry.is_empty() {
            *entry = tag;
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    tags
}

/// Returns every slot, in order.
pub fn all() -> std::ops::Range<u16> {
    0..SLOT_COUNT
}

/// An inclusive range of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotRange {
    /// First slot.
    pub start: u16,
    /// Last slot, included.
    pub end: u16,
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end {
            write!(f, "{}", self.start)
        } else {
            write!(f, "{}-{}", self.start, self.end)
        }
    }
}

/// A set of slots, kept as sorted ranges that neither overlap nor touch. Displays as `0-5460,5500`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotSet {
    ranges: Vec<SlotRange>,
}

impl SlotSet {
    /// Returns the set of all 16384 slots.
    pub fn full() -> Self {
        Self {
            ranges: vec![SlotRange {
                start: 0,
                end: SLOT_COUNT - 1,
            }],
        }
    }

    /// Returns the ranges, ascending.
    pub fn ranges(&self) -> &[SlotRange] {
        &self.ranges
    }

    /// Returns the number of slots in the set.
    pub fn len(&self) -> usize {
        self.ranges
            .iter()
            .map(|range| usize::from(range.end - range.start) + 1)
            .sum()
    }

    /// Returns true if the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns true if `slot` is in the set.
    pub fn contains(&self, slot: u16) -> bool {
        let after = self.ranges.partition_point(|range| range.start <= slot);
        after > 0 && slot <= self.ranges[after - 1].end
    }

    /// Returns the slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.ranges.iter().flat_map(|range| range.start..=range.end)
    }

    /// Adds one range.
    ///
    /// # Panics
    /// When the range is reversed or goes beyond the last slot.
    pub fn insert(&mut self, added: SlotRange) {
        assert!(
            added.start <= added.end && added.end < SLOT_COUNT,
            "slot range {added} does not exist"
        );
        let first = self.ranges.partition_point(|range| range.end + 1 < added.start);
        let last = self.ranges.partition_point(|range| range.start <= added.end + 1);
        let merged = self.ranges[first..last]
            .iter()
            .fold(added, |sum, range| SlotRange {
                start: sum.start.min(range.start),
                end: sum.end.max(range.end),
            });
        self.ranges.splice(first..last, [merged]);
    }

    /// Returns the text for messages. A set of many ranges is shortened to its beginning and its
    /// extent.
    pub fn summary(&self) -> String {
        /// This number of ranges fits on a line of a message.
        const SHOWN: usize = 8;
        let [first, .., last] = self.ranges.as_slice() else {
            return self.to_string();
        };
        if self.ranges.len() <= SHOWN {
            return self.to_string();
        }
        let shown: Vec<String> = self.ranges[..SHOWN].iter().map(ToString::to_string).collect();
        format!(
            "{},… ({} between {} and {})",
            shown.join(","),
            self.len(),
            first.start,
            last.end
        )
    }

    /// Returns the slots in `self` that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for &range in &self.ranges {
            let mut start = range.start;
            let first = other.ranges.partition_point(|hole| hole.end < start);
            let holes = other.ranges[first..]
                .iter()
                .take_while(|hole| hole.start <= range.end);
            for hole in holes {
                if hole.start > start {
                    let end = hole.start - 1;
                    left.push(SlotRange { start, end });
                }
                start = hole.end + 1;
            }
            if start <= range.end {
                left.push(SlotRange {
                    start,
                    end: range.end,
                });
            }
        }
        Self { ranges: left }
    }

    /// Returns the slots in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        self.difference(&self.difference(other))
    }
}

impl FromIterator<u16> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut set = Self::default();
        for slot in slots {
            set.insert(SlotRange {
                start: slot,
                end: slot,
            });
        }
        set
    }
}

impl FromIterator<SlotRange> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotRange>>(ranges: I) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ranges.is_empty() {
            return f.write_str("none");
        }
        for (index, range) in self.ranges.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{range}")?;
        }
        Ok(())
    }
}

impl From<SlotSet> for String {
    fn from(set: SlotSet) -> Self {
        set.to_string()
    }
}

impl TryFrom<String> for SlotSet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::default());
        }
        text.split(',').map(parse_range).collect()
    }
}

/// Returns the coarsest division of all slots into pieces that no set splits. Whatever holds for
/// the first slot of a piece holds for the others. A cluster has 16384 slots but only a few pieces.
pub fn pieces<'a>(sets: impl IntoIterator<Item = &'a SlotSet>) -> Vec<SlotRange> {
    let mut starts = BTreeSet::from([0]);
    for range in sets.into_iter().flat_map(SlotSet::ranges) {
        starts.extend([range.start, range.end + 1]);
    }
    starts.insert(SLOT_COUNT);
    let next = starts.iter().skip(1);
    starts
        .iter()
        .zip(next)
        .map(|(&start, &next)| SlotRange { start, end: next - 1 })
        .collect()
}

/// Parses `5` or `0-5460`.
///
/// # Errors
/// Names the part that is not a slot.
pub fn parse_range(text: &str) -> Result<SlotRange, String> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (parse_slot(start)?, parse_slot(end)?);
    if start > end {
        return Err(format!("slot range {text:?} is reversed"));
    }
    Ok(SlotRange { start, end })
}

/// Parses one slot number.
///
/// # Errors
/// When the text is not a number below 16384.
pub fn parse_slot(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|&slot| slot < SLOT_COUNT)
        .ok_or_else(|| format!("{text:?} is not a slot"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn crc16_matches_the_specification() {
        // The reference value of the cluster specification.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(key_slot(b"foo"), 12182);
    }

    #[test]
    fn hash_tags_follow_the_specification() {
        assert_eq!(hash_tag(b"{user1000}.following"), b"user1000");
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
    }

    #[test]
    fn every_slot_has_a_short_key_of_its_own() {
        for slot in all() {
            assert_eq!(key_slot(key_for_slot(slot).as_bytes()), slot);
            assert!(tag_for_slot(slot).len() <= 4, "{}", tag_for_slot(slot));
        }
    }

    #[test]
    fn a_set_shows_as_ranges_and_reads_back() {
        let set: SlotSet = [3, 1, 2, 9, 0].into_iter().collect();
        assert_eq!(set.to_string(), "0-3,9");
        assert_eq!(SlotSet::try_from(set.to_string()), Ok(set));
        assert_eq!(SlotSet::try_from("none".to_owned()), Ok(SlotSet::default()));
        assert!(SlotSet::try_from("7-3".to_owned()).is_err());
        assert!(SlotSet::try_from("16384".to_owned()).is_err());
    }

    #[test]
    fn a_set_in_many_pieces_is_summed_up() {
        let set: SlotSet = (0..40).step_by(2).collect();
        assert_eq!(set.summary(), "0,2,4,6,8,10,12,14,… (20 between 0 and 38)");
        assert_eq!(SlotSet::full().summary(), "0-16383");
    }

    #[test]
    fn what_is_taken_from_a_range_may_leave_two() {
        let set = |text: &str| SlotSet::try_from(text.to_owned()).expect("slots");
        let left = SlotSet::full().difference(&set("0-9,100,200-299,16383"));
        assert_eq!(left.to_string(), "10-99,101-199,300-16382");
        assert!(set("5-9").difference(&set("0-20")).is_empty());
        assert_eq!(
            set("0-99").intersection(&set("50-149,16383")).to_string(),
            "50-99"
        );
    }

    proptest! {
        #[test]
        fn a_set_agrees_with_a_btreeset(slots in proptest::collection::btree_set(0..SLOT_COUNT, 0..200), other in proptest::collection::btree_set(0..SLOT_COUNT, 0..200)) {
            let set: SlotSet = slots.iter().copied().collect();
            let others: SlotSet = other.iter().copied().collect();
            prop_assert_eq!(set.len(), slots.len());
            prop_assert!(set.iter().eq(slots.iter().copied()));
            prop_assert!(set.difference(&others).iter().eq(slots.difference(&other).copied()));
            prop_assert!(set.intersection(&others).iter().eq(slots.intersection(&other).copied()));
            prop_assert!(set.ranges().windows(2).all(|pair| pair[0].end + 1 < pair[1].start));
            prop_assert!(slots.iter().all(|&slot| set.contains(slot)));
        }

        #[test]
        fn pieces_are_all_slots_and_no_set_has_half_of_one(sets in proptest::collection::vec(proptest::collection::btree_set(0..SLOT_COUNT, 0..20), 0..4)) {
            let sets: Vec<SlotSet> = sets.into_iter().map(|slots| slots.into_iter().collect()).collect();
            let pieces = pieces(&sets);
            prop_assert!(pieces.iter().flat_map(|piece| piece.start..=piece.end).eq(all()));
            let whole = |set: &SlotSet, piece: &SlotRange| {
                let first = set.contains(piece.start);
                (piece.start..=piece.end).all(|slot| set.contains(slot) == first)
            };
            prop_assert!(sets.iter().all(|set| pieces.iter().all(|piece| whole(set, piece))));
        }

        #[test]
        fn ranges_never_panic(text in ".{0,12}") {
            let _ = parse_range(&text);
        }
    }
}
