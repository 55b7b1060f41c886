//! Percentiles of measured durations.

use std::time::Duration;

/// Returns the nearest-rank percentile in milliseconds: the smallest value that `percent` of the
/// values do not exceed. Undefined for no values: a measurement has at least one sample.
pub(super) fn percentile_ms(values: &[Duration], percent: f64) -> f64 {
    assert!(!values.is_empty(), "a measurement has samples");
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is at most the number of samples, which is far below 2^52"
    )]
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1].as_secs_f64() * 1_000.0
}

/// Returns the median; for an even count, the lower of the two middle values.
pub(super) fn median(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "a measurement has samples");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(values: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values = milliseconds((1..=100).rev());
        assert_eq!(percentile_ms(&values, 50.0), 50.0);
        assert_eq!(percentile_ms(&values, 99.0), 99.0);
        assert_eq!(percentile_ms(&values, 100.0), 100.0);
    }

    #[test]
    fn of_few_values_a_high_percentile_is_the_worst() {
        let values = milliseconds([3, 9, 1]);
        assert_eq!(percentile_ms(&values, 95.0), 9.0);
        assert_eq!(percentile_ms(&values, 50.0), 3.0);
        assert_eq!(percentile_ms(&milliseconds([7]), 50.0), 7.0);
    }

    #[test]
    fn the_median_is_not_moved_by_one_outlier() {
        assert_eq!(median(&[2.0, 1_000.0, 1.0]), 2.0);
        assert_eq!(median(&[2.0, 1.0]), 1.0);
    }
}
