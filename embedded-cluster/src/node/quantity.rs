//! Kubernetes quantities (`1500m`, `128Mi`) as numbers, and what this machine has of them.

/// A quantity in thousandths of its unit; `None` for what is no quantity. Fractions of a thousandth round up.
pub(crate) fn milli(text: &str) -> Option<i128> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (factor, divisor): (i128, i128) = match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1_000),
        "m" => (1, 1),
        "" => (1_000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1_000 << 10, 1),
        "Mi" => (1_000 << 20, 1),
        "Gi" => (1_000 << 30, 1),
        "Ti" => (1_000_i128 << 40, 1),
        "Pi" => (1_000_i128 << 50, 1),
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches(['+', '-']));
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?) * divisor;
    let value = digits.parse::<i128>().ok()?.checked_mul(factor)?;
    let value = (value + scale - 1) / scale;
    Some(if negative { -value } else { value })
}

/// A quantity in whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<u64> {
    milli(text).and_then(|milli| u64::try_from((milli + 999) / 1000).ok())
}

/// The processors this process may use.
pub(crate) fn node_cpus() -> i128 {
    std::thread::available_parallelism().map_or(1, |count| i128::try_from(count.get()).unwrap_or(1))
}

/// The machine's memory in bytes.
pub(crate) fn node_memory() -> i128 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<i128>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::{milli, units};

    #[test]
    fn suffixes_and_fractions() {
        assert_eq!(milli("1500m"), Some(1500));
        assert_eq!(milli("1.5"), Some(1500));
        assert_eq!(units("128Mi"), Some(128 << 20));
        assert_eq!(units("8Gi"), Some(8 << 30));
        assert_eq!(units("0.5Ki"), Some(512));
        assert_eq!(units("1n"), Some(1));
        assert_eq!(milli("abc"), None);
        assert_eq!(milli(""), None);
        assert_eq!(milli("1x"), None);
    }
}
