//! Resource quantities (`100m`, `1Gi`, `2e3`): the one parser for the API server, the controllers
//! and the node.
//!
//! Grammar and rounding follow `k8s.io/apimachinery/pkg/api/resource`. Amounts beyond the range
//! saturate.

/// Number of decimal digits kept after the point, as in Kubernetes: billionths.
const SCALE: i64 = 9;

/// An amount in billionths of its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(i128);

impl Amount {
    /// The zero amount.
    pub(crate) const ZERO: Self = Self(0);

    /// Parses a quantity; returns `None` when the text is not a quantity.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (negative, number) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let (binary, decimal) = scale(suffix)?;
        let digits: i128 = digits.parse().unwrap_or(i128::MAX);
        let exponent = SCALE + decimal - i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        let amount = shifted(digits.saturating_mul(1 << binary), exponent);
        Some(Self(if negative { -amount } else { amount }))
    }

    /// Returns the amount in thousandths, rounded up.
    pub(crate) fn milli(self) -> i128 {
        divided(self.0, 1_000_000)
    }

    /// Returns the amount in whole units, rounded up.
    pub(crate) fn units(self) -> i128 {
        divided(self.0, 1_000_000_000)
    }

    /// Adds two amounts and saturates at the limit.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the amount of `units` whole units.
    pub(crate) fn of_units(units: i128) -> Self {
        Self(units.saturating_mul(1_000_000_000))
    }
}

/// Parses a quantity into thousandths of its unit, rounded up. Returns `None` if `text` is not a
/// quantity.
pub(crate) fn milli(text: &str) -> Option<i128> {
    Amount::parse(text).map(Amount::milli)
}

/// Parses a quantity into whole units, rounded up. Returns `None` if `text` is not a quantity or is
/// negative.
pub(crate) fn units(text: &str) -> Option<u64> {
    let units = Amount::parse(text)?.units();
    (units >= 0).then(|| u64::try_from(units).unwrap_or(u64::MAX))
}

/// Returns the power of two and the power of ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(u32, i64)> {
    Some(match suffix {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        exponent => {
            let exponent = exponent.strip_prefix(['e', 'E'])?;
            (0, exponent.parse::<i32>().ok()?.into())
        }
    })
}

/// Computes `digits * 10^exponent`, rounded up, saturating.
fn shifted(digits: i128, exponent: i64) -> i128 {
    let power = u32::try_from(exponent.unsigned_abs())
        .ok()
        .and_then(|exponent| 10_i128.checked_pow(exponent));
    match (digits, power) {
        (0, _) => 0,
        (_, Some(power)) if exponent >= 0 => digits.saturating_mul(power),
        (_, None) if exponent >= 0 => i128::MAX,
        (_, Some(power)) => divided(digits, power),
        (_, None) => 1,
    }
}

/// Divides and rounds away from zero, as Kubernetes does.
fn divided(amount: i128, by: i128) -> i128 {
    let rest = i128::from(amount % by != 0);
    amount / by + rest * amount.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, thousandths) in [
            ("1500m", 1500),
            ("1.5", 1500),
            ("100u", 1),
            ("1n", 1),
            ("1e3", 1_000_000),
            ("2E3", 2_000_000),
            ("1e-3", 1),
            ("1E", 10_i128.pow(21)),
            ("1Ki", 1_024_000),
            ("0.5Ki", 512_000),
            (".5", 500),
            ("5.", 5000),
            ("-1.5", -1500),
            ("+1", 1000),
            ("0", 0),
        ] {
            assert_eq!(milli(text), Some(thousandths), "{text}");
        }
        for text in [
            "", "abc", "1x", "1Q", "--1", "1-2", ".", "1.2.3", " 1", "e3", "1e", "1ee3", "-",
        ] {
            assert_eq!(milli(text), None, "{text:?}");
        }
        assert_eq!(
            (units("128Mi"), units("1500m"), units("-1")),
            (Some(128 << 20), Some(2), None)
        );
    }

    #[test]
    fn amounts_beyond_the_range_saturate() {
        for text in [
            "1e999",
            "99999999999999999999999999999999999999999999E",
            "9e2147483647",
        ] {
            assert!(
                milli(text).is_some_and(|amount| amount > 10_i128.pow(28)),
                "{text}"
            );
            assert_eq!(units(text), Some(u64::MAX), "{text}");
        }
        assert_eq!((milli("1e-2147483648"), milli("0e999")), (Some(1), Some(0)));
        let most = Amount::parse("1e999").expect("a quantity");
        assert_eq!(most.plus(most), most);
    }
}
