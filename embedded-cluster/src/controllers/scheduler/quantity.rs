//! Kubernetes quantities, in thousandths: enough to add up requests and compare them with a node's capacity.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The quantity in thousandths (so `250m` is 250 and `1Ki` is 1 024 000); `None` when it is not one.
pub(crate) fn thousandths(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let milli = whole * 1000 + digits.parse::<i128>().ok()?;
    let scaled = match suffix {
        "m" => milli / 1000,
        "u" | "n" => 0,
        "" => milli,
        "k" => milli * 1000,
        "M" => milli * 1000_i128.pow(2),
        "G" => milli * 1000_i128.pow(3),
        "T" => milli * 1000_i128.pow(4),
        "P" => milli * 1000_i128.pow(5),
        "Ki" => milli << 10,
        "Mi" => milli << 20,
        "Gi" => milli << 30,
        "Ti" => milli << 40,
        "Pi" => milli << 50,
        other => {
            let exponent: u32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            milli.checked_mul(10_i128.checked_pow(exponent)?)?
        }
    };
    Some(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_scale() {
        let of = |text: &str| thousandths(&Quantity(text.into()));
        assert_eq!(of("250m"), Some(250));
        assert_eq!(of("1.5"), Some(1500));
        assert_eq!(of("1Ki"), Some(1_024_000));
        assert_eq!(of("2e3"), Some(2_000_000));
        assert_eq!(of("plenty"), None);
    }
}
