//! Durations from the whole seconds that objects and requests contain. Every `i64` is accepted, and
//! none overflows a clock.

use std::time::Duration;

/// The longest duration: a century. Adding it to a clock or timestamp does not overflow.
const LONGEST: u64 = 100 * 366 * 24 * 60 * 60;

/// Converts `seconds` to a duration of at least zero and at most a century.
pub(crate) fn bounded(seconds: impl Into<i64>) -> Duration {
    Duration::from_secs(u64::try_from(seconds.into()).unwrap_or(0).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_seconds_can_be_added_to_every_clock() {
        for seconds in [i64::MIN, -1, 0, 1, 1_000_000_000_000, i64::MAX] {
            let duration = bounded(seconds);
            assert!(std::time::Instant::now().checked_add(duration).is_some());
            assert!(jiff::Timestamp::now().checked_add(duration).is_ok());
            assert!(jiff::Timestamp::now().checked_sub(duration).is_ok());
        }
        assert_eq!(bounded(30), Duration::from_secs(30));
    }
}
