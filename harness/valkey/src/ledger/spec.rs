//! The specification of a ledger. A seed and the key's number determine each key's name, slot,
//! type, size and lifetime.

use serde::{Deserialize, Serialize};

use super::super::slots::{SLOT_COUNT, SlotSet, tag_for_slot};

/// The largest value: 1 MiB.
pub const LARGEST: usize = 1024 * 1024;

/// The largest element of a collection: 16 KiB. A key has a few elements.
const LARGEST_ELEMENT: usize = 16 * 1024;

/// The specification of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerSpec {
    /// Distinguishes this ledger's keys from others. Letters, digits and dashes.
    pub label: String,
    /// The source of all content. Print it, and accept it back.
    pub seed: u64,
    /// Number of keys. The first 16384 keys occupy one slot each, as do the next 16384, and so on.
    pub keys: u64,
    /// Types, sizes and lifetimes.
    pub mix: Mix,
    /// The start of all lifetimes, in milliseconds of UNIX time.
    pub base_ms: i64,
}

/// Types, sizes and lifetimes of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// Strings of 3 bytes that never expire, as benchmark tools write by default.
    Plain,
    /// All types, 1 B to 1 MiB, and lifetimes for one key in nine.
    Varied,
}

/// The type of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// A string.
    String,
    /// A hash.
    Hash,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    ZSet,
    /// A stream.
    Stream,
}

/// The shape of one key in every generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The key's type.
    pub kind: KeyKind,
    /// Bytes in the string, or in each element.
    pub size: usize,
    /// Number of elements; 1 for a string.
    pub elements: usize,
    /// The expiry, in milliseconds of UNIX time.
    pub expires_ms: Option<i64>,
}

impl LedgerSpec {
    /// Returns the slot of key `index`.
    pub fn slot(&self, index: u64) -> u16 {
        u16::try_from(index % u64::from(SLOT_COUNT)).expect("a remainder below 16384")
    }

    /// Appends the name of key `index`: `{tag}label:index`.
    pub(super) fn push_key(&self, buffer: &mut Vec<u8>, index: u64) {
        buffer.push(b'{');
        buffer.extend_from_slice(tag_for_slot(self.slot(index)).as_bytes());
        buffer.push(b'}');
        buffer.extend_from_slice(self.label.as_bytes());
        buffer.push(b':');
        buffer.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
    }

    /// Returns the slots with a key that has not expired at `moment_ms` of UNIX time.
    pub fn slots_at(&self, moment_ms: i64) -> SlotSet {
        let lives = |index: &u64| self.shape(*index).expires_ms.is_none_or(|at| at > moment_ms);
        (0..self.keys)
            .filter(lives)
            .map(|index| self.slot(index))
            .collect()
    }

    /// Returns the name of key `index`.
    pub fn key(&self, index: u64) -> String {
        let mut buffer = Vec::new();
        self.push_key(&mut buffer, index);
        String::from_utf8(buffer).expect("labels and tags are text")
    }

    /// Returns the number of the key called `name`, if the name has this ledger's form.
    pub fn index_of(&self, name: &[u8]) -> Option<u64> {
        let rest = &name[name.iter().position(|&byte| byte == b'}')? + 1..];
        let digits = rest.strip_prefix(self.label.as_bytes())?.strip_prefix(b":")?;
        let index: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let mut expected = Vec::new();
        self.push_key(&mut expected, index);
        (expected == name).then_some(index)
    }

    /// Returns the shape of key `index`.
    pub fn shape(&self, index: u64) -> Shape {
        match self.mix {
            Mix::Plain => Shape {
                kind: KeyKind::String,
                size: 3,
                elements: 1,
                expires_ms: None,
            },
            Mix::Varied => self.varied(index),
        }
    }

    fn varied(&self, index: u64) -> Shape {
        let mut random = Random::new(self.seed, index, 0);
        let kind = match random.below(16) {
            0..=7 => KeyKind::String,
            8 | 9 => KeyKind::Hash,
            10 | 11 => KeyKind::List,
            12 => KeyKind::Set,
            13 | 14 => KeyKind::ZSet,
            _ => KeyKind::Stream,
        };
        // Most values are small: a million keys have about a hundred megabytes. A few are of the
        // largest size.
        let limit = match random.below(100_000) {
            0 => LARGEST,
            1..=100 => LARGEST_ELEMENT,
            101..=3000 => 1024,
            _ => 128,
        };
        let (kind, size) = match index {
            // The extremes always occur.
            0 => (KeyKind::String, 1),
            1 => (KeyKind::String, LARGEST),
            _ => (kind, 1 + random.below(limit as u64) as usize),
        };
        let elements = if kind == KeyKind::String {
            1
        } else {
            1 + random.below(4) as usize
        };
        let size = match kind {
            KeyKind::String => size,
            // Members of a set must differ; eight random bytes suffice.
            KeyKind::Set | KeyKind::ZSet => size.clamp(8, LARGEST_ELEMENT),
            KeyKind::Hash | KeyKind::List | KeyKind::Stream => size.min(LARGEST_ELEMENT),
        };
        let expires_ms = match random.below(100) {
            // Long enough to exist at the end, and short enough to notice a vanished expiry.
            0..=9 => Some(self.base_ms + (3600 + random.below(24 * 3600) as i64) * 1000),
            // Expires in the course of a scenario.
            10 => Some(self.base_ms + (20 + random.below(40) as i64) * 1000),
            _ => None,
        };
        Shape {
            kind,
            size,
            elements,
            expires_ms,
        }
    }
}

/// The random generator SplitMix64 (Steele, Lea, Flood 2014). It needs one multiplication chain per
/// eight bytes, and any state is a good seed.
pub(super) struct Random(u64);

impl Random {
    /// Returns the stream for key `index` and `purpose`.
    pub(super) fn new(seed: u64, index: u64, purpose: u64) -> Self {
        let mut random = Self(seed ^ index.wrapping_mul(0xD134_2543_DE82_EF95) ^ purpose.rotate_left(32));
        random.next();
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number below `limit`. The bias of a remainder does not matter here.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::super::slots::key_slot;
    use super::*;

    fn spec() -> LedgerSpec {
        LedgerSpec {
            label: "t".to_owned(),
            seed: 7,
            keys: 100_000,
            mix: Mix::Varied,
            base_ms: 1_000_000,
        }
    }

    #[test]
    fn names_lead_to_their_slots_and_back() {
        let spec = spec();
        for index in (0..spec.keys).step_by(97) {
            let key = spec.key(index);
            assert_eq!(key_slot(key.as_bytes()), spec.slot(index));
            assert_eq!(spec.index_of(key.as_bytes()), Some(index));
        }
        assert_eq!(spec.index_of(b"{x}t:5"), None, "the tag of another slot");
        assert_eq!(spec.index_of(b"other"), None);
        assert_eq!(spec.index_of(b"{0}u:5"), None);
    }

    #[test]
    fn the_mix_has_every_type_both_extremes_and_lifetimes() {
        let spec = spec();
        let shapes: Vec<Shape> = (0..50_000).map(|index| spec.shape(index)).collect();
        let kinds: BTreeSet<KeyKind> = shapes.iter().map(|shape| shape.kind).collect();
        assert_eq!(kinds.len(), 6);
        assert_eq!((shapes[0].size, shapes[1].size), (1, LARGEST));
        assert!(shapes.iter().all(|shape| (1..=LARGEST).contains(&shape.size)));
        let mortal = shapes.iter().filter(|shape| shape.expires_ms.is_some()).count();
        assert!((4500..6500).contains(&mortal), "{mortal}");
        assert_eq!(spec.shape(77), spec.shape(77), "the same every time");
    }

    #[test]
    fn a_slot_whose_keys_have_all_expired_is_left_out() {
        let mut spec = spec();
        spec.keys = u64::from(SLOT_COUNT);
        let mortal = (0..spec.keys).find_map(|index| Some((index, spec.shape(index).expires_ms?)));
        let (index, expires_ms) = mortal.expect("the mix has mortal keys");
        let slot = spec.slot(index);
        assert!(spec.slots_at(expires_ms - 1).contains(slot));
        assert!(!spec.slots_at(expires_ms).contains(slot));
        spec.keys += u64::from(SLOT_COUNT);
        assert!(spec.slots_at(expires_ms).contains(slot), "its second key lives");
    }
}
