//! Classification of a key, from the records of its writes and the value that was found. Pure code.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ledger_file::Record;
use super::value::Found;

/// Tolerance around a key's expiry, in which the key may exist or not. Clocks of machines differ,
/// and a server removes an expired key a moment late.
pub const CLOCK_TOLERANCE_MS: i64 = 2000;

/// Time that a key may expire later than written. `valkey-cli --cluster rebalance` moves each key
/// with `MIGRATE`, which sends the remaining time to live. The receiver counts it from the arrival,
/// so each move shifts an expiry by the transfer time. Clocks of two machines may also differ, in
/// either direction.
pub const LATEST_SHIFT_MS: i64 = 5000;

/// Returns the shift of a moved key's expiry from the written one, if it is within bounds.
pub(super) fn shift(lifetime: Lifetime) -> Option<i64> {
    let shift = lifetime.seen_ms? - lifetime.expires_ms?;
    (lifetime.seen_ms >= Some(0) && (-CLOCK_TOLERANCE_MS..=LATEST_SHIFT_MS).contains(&shift)).then_some(shift)
}

/// The class of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The key holds the last acknowledged write, or a later one of unknown outcome.
    Intact,
    /// The key was never acknowledged and is absent: refused, or of unknown outcome.
    Unwritten,
    /// The key is gone after its time.
    Expired,
    /// The key was acknowledged and is gone.
    Lost,
    /// The key holds an older generation than the acknowledged one.
    Stale,
    /// The key holds content that was never written to it.
    Corrupt,
    /// The key exists although it was never written, or only refused.
    Phantom,
    /// The key is gone before its time.
    ExpiredEarly,
    /// The key should expire, but has no expiry any more or exists after its time.
    Immortal,
    /// The key could not be read, which does not make it lost.
    Unverified,
}

impl Class {
    /// Returns true if a key must not be in this class.
    pub fn is_violation(self) -> bool {
        match self {
            Self::Intact | Self::Unwritten | Self::Expired | Self::Unverified => false,
            Self::Lost
            | Self::Stale
            | Self::Corrupt
            | Self::Phantom
            | Self::ExpiredEarly
            | Self::Immortal => true,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intact => "intact",
            Self::Unwritten => "unwritten",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Stale => "stale",
            Self::Corrupt => "corrupt",
            Self::Phantom => "phantom",
            Self::ExpiredEarly => "expired early",
            Self::Immortal => "immortal",
            Self::Unverified => "unverified",
        })
    }
}

/// The facts about a key's lifetime at the time of the read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// The expected expiry.
    pub(super) expires_ms: Option<i64>,
    /// The answer to `PEXPIRETIME`: -1 never, -2 no such key. `None` if it was not asked.
    pub(super) seen_ms: Option<i64>,
    /// The time of the read.
    pub(super) now_ms: i64,
}

/// Classifies one key.
pub(super) fn classify(record: Record, found: Found, lifetime: Lifetime) -> Class {
    match found {
        Found::Absent if record.acknowledged == 0 => Class::Unwritten,
        Found::Absent => match lifetime.expires_ms {
            Some(expires) if lifetime.now_ms >= expires - CLOCK_TOLERANCE_MS => Class::Expired,
            Some(_) => Class::ExpiredEarly,
            None => Class::Lost,
        },
        _ if record.attempted == 0 => Class::Phantom,
        Found::Foreign => Class::Corrupt,
        Found::Generation(generation) if generation < record.acknowledged => Class::Stale,
        // A generation later than the last possible write was refused, or never sent.
        Found::Generation(generation) if generation > record.attempted => Class::Phantom,
        Found::Generation(_) => lifetime_class(lifetime),
    }
}

fn lifetime_class(lifetime: Lifetime) -> Class {
    let Some(expires) = lifetime.expires_ms else {
        return Class::Intact;
    };
    match lifetime.seen_ms {
        _ if lifetime.now_ms > expires + LATEST_SHIFT_MS + CLOCK_TOLERANCE_MS => Class::Immortal,
        Some(-1) => Class::Immortal,
        // The key expired between the two commands.
        Some(-2) if lifetime.now_ms >= expires - CLOCK_TOLERANCE_MS => Class::Expired,
        Some(_) if shift(lifetime).is_none() => Class::Corrupt,
        _ => Class::Intact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MORTAL: Lifetime = Lifetime {
        expires_ms: Some(100_000),
        seen_ms: Some(100_000),
        now_ms: 50_000,
    };
    const ETERNAL: Lifetime = Lifetime {
        expires_ms: None,
        seen_ms: None,
        now_ms: 50_000,
    };

    fn record(attempted: u8, acknowledged: u8) -> Record {
        Record {
            attempted,
            acknowledged,
            ..Record::default()
        }
    }

    #[test]
    fn acknowledged_data_is_intact_lost_stale_or_corrupt() {
        assert_eq!(
            classify(record(2, 2), Found::Generation(2), ETERNAL),
            Class::Intact
        );
        assert_eq!(classify(record(2, 2), Found::Absent, ETERNAL), Class::Lost);
        assert_eq!(
            classify(record(2, 2), Found::Generation(1), ETERNAL),
            Class::Stale
        );
        assert_eq!(classify(record(2, 2), Found::Foreign, ETERNAL), Class::Corrupt);
    }

    #[test]
    fn either_state_is_right_for_an_unknown_outcome() {
        assert_eq!(
            classify(record(2, 1), Found::Generation(2), ETERNAL),
            Class::Intact
        );
        assert_eq!(
            classify(record(2, 1), Found::Generation(1), ETERNAL),
            Class::Intact
        );
        assert_eq!(
            classify(record(2, 1), Found::Absent, ETERNAL),
            Class::Lost,
            "the first was acknowledged"
        );
        assert_eq!(classify(record(1, 0), Found::Absent, ETERNAL), Class::Unwritten);
        assert_eq!(
            classify(record(1, 0), Found::Generation(1), ETERNAL),
            Class::Intact
        );
    }

    #[test]
    fn a_refused_write_that_took_effect_is_a_phantom() {
        let refused = Record {
            refused: 1,
            ..Record::default()
        };
        assert_eq!(classify(refused, Found::Absent, ETERNAL), Class::Unwritten);
        assert_eq!(classify(refused, Found::Generation(1), ETERNAL), Class::Phantom);
        let second_refused = Record {
            attempted: 1,
            acknowledged: 1,
            refused: 2,
            confirmed: 0,
        };
        assert_eq!(
            classify(second_refused, Found::Generation(2), ETERNAL),
            Class::Phantom
        );
    }

    #[test]
    fn lifetimes_run_out_in_time_and_not_before() {
        let at = |now_ms| Lifetime { now_ms, ..MORTAL };
        assert_eq!(
            classify(record(1, 1), Found::Generation(1), MORTAL),
            Class::Intact
        );
        assert_eq!(classify(record(1, 1), Found::Absent, MORTAL), Class::ExpiredEarly);
        assert_eq!(
            classify(record(1, 1), Found::Absent, at(99_000)),
            Class::Expired,
            "within the clocks' tolerance"
        );
        assert_eq!(classify(record(1, 1), Found::Absent, at(200_000)), Class::Expired);
        assert_eq!(
            classify(record(1, 1), Found::Generation(1), at(200_000)),
            Class::Immortal
        );
        let removed = Lifetime {
            seen_ms: Some(-1),
            ..MORTAL
        };
        assert_eq!(
            classify(record(1, 1), Found::Generation(1), removed),
            Class::Immortal
        );
        let moved_to = |seen_ms| Lifetime {
            seen_ms: Some(seen_ms),
            ..MORTAL
        };
        for seen_ms in [98_000, 100_003, 105_000] {
            let class = classify(record(1, 1), Found::Generation(1), moved_to(seen_ms));
            assert_eq!(
                (class, shift(moved_to(seen_ms))),
                (Class::Intact, Some(seen_ms - 100_000))
            );
        }
        let changed = Lifetime {
            seen_ms: Some(105_001),
            ..MORTAL
        };
        assert_eq!(
            classify(record(1, 1), Found::Generation(1), changed),
            Class::Corrupt
        );
    }
}
