//! Cells that several kinds share.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::object::{at, text};

/// The text of an empty cell.
pub(super) const NONE: &str = "<none>";

/// Returns the object's age.
pub(super) fn age(object: &Value) -> Value {
    json!(since(text(object, &["metadata", "creationTimestamp"])))
}

/// Returns the age of a moment, as kubectl writes it.
pub(super) fn since(moment: &str) -> String {
    match moment.parse::<Timestamp>() {
        Ok(then) => duration(Timestamp::now().as_second() - then.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// Formats seconds with one or two units, like `duration.HumanDuration` in apimachinery.
pub(super) fn duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |major: i64, unit: &str, minor: i64, minor_unit: &str| match minor {
        0 => format!("{major}{unit}"),
        _ => format!("{major}{unit}{minor}{minor_unit}"),
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, "y", days % 365, "d"),
    }
}

/// Returns the text at a path, or `<none>`.
pub(super) fn or_none(object: &Value, path: &[&str]) -> Value {
    match text(object, path) {
        "" => json!(NONE),
        found => json!(found),
    }
}

/// Returns the number at a path, or 0.
pub(super) fn number(object: &Value, path: &[&str]) -> i64 {
    at(object, path).and_then(Value::as_i64).unwrap_or(0)
}

/// Joins texts with commas, or returns `<none>`.
pub(super) fn joined<I: IntoIterator<Item = String>>(texts: I) -> Value {
    let all: Vec<String> = texts.into_iter().collect();
    if all.is_empty() {
        json!(NONE)
    } else {
        json!(all.join(","))
    }
}

/// Formats labels as `a=b,c=d`, or returns `<none>`.
pub(super) fn labels(labels: Option<&Value>) -> Value {
    let map = labels.and_then(Value::as_object);
    let mut texts: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    texts.sort();
    joined(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_kubectl_does() {
        for (seconds, text) in [
            (5, "5s"),
            (119, "119s"),
            (125, "2m5s"),
            (600, "10m"),
            (7200, "120m"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (200_000, "2d7h"),
            (-1, "0s"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
