//! What became of a key, from what is recorded of its writes and what was found. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::journal::Record;
use super::value::Found;

/// Clocks of machines differ, and a server removes an expired key a moment late: within this time of its expiry a key
/// may be there or not.
pub const CLOCK_TOLERANCE_MS: i64 = 2000;

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It holds what was last acknowledged, or a later write of unknown outcome.
    Intact,
    /// It was never acknowledged, and is not there: refused, or of unknown outcome.
    Unwritten,
    /// It lived its time and is gone.
    Expired,
    /// It was acknowledged and is gone.
    Lost,
    /// It holds an older generation than was acknowledged.
    Stale,
    /// It holds something that was never written to it.
    Corrupt,
    /// It is there, and was never written, or only refused.
    Phantom,
    /// It is gone before its time.
    ExpiredEarly,
    /// It should expire, and does not any more, or is still there after its time.
    Immortal,
    /// It could not be read; it is not called lost for that.
    Unverified,
}

impl Class {
    /// Whether this must not be.
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

/// What is known of a key's lifetime at the moment it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// When it should expire.
    pub(super) expires_ms: Option<i64>,
    /// `PEXPIRETIME`: when it will; -1 never, -2 it is not there. `None` when it was not asked.
    pub(super) seen_ms: Option<i64>,
    /// Now.
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
        // A later generation than may have been written was refused, or never sent.
        Found::Generation(generation) if generation > record.attempted => Class::Phantom,
        Found::Generation(_) => lifetime_class(lifetime),
    }
}

fn lifetime_class(lifetime: Lifetime) -> Class {
    let Some(expires) = lifetime.expires_ms else {
        return Class::Intact;
    };
    match lifetime.seen_ms {
        _ if lifetime.now_ms > expires + CLOCK_TOLERANCE_MS => Class::Immortal,
        Some(-1) => Class::Immortal,
        // It expired between the two questions.
        Some(-2) if lifetime.now_ms >= expires - CLOCK_TOLERANCE_MS => Class::Expired,
        Some(seen) if seen != expires => Class::Corrupt,
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
        let changed = Lifetime {
            seen_ms: Some(70_000),
            ..MORTAL
        };
        assert_eq!(
            classify(record(1, 1), Found::Generation(1), changed),
            Class::Corrupt
        );
    }
}
