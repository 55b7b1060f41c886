//! The syntax of texts in values: names, image references, quantities, addresses.

use std::net::IpAddr;
use std::sync::LazyLock;

use regex::Regex;

/// Kubernetes' limit for the name of an object.
const OBJECT_NAME_LIMIT: usize = 253;

/// The largest amount of memory that Valkey still reads as a number of bytes, in digits.
const MEMORY_DIGITS: usize = 15;

/// Linux's capabilities as containers name them, without their prefix (capabilities(7)). `ALL`
/// stands for all of them.
const CAPABILITIES: &str = "ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE \
     DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN \
     NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE \
     SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM";

/// Compiles a pattern once.
macro_rules! pattern {
    ($pattern:literal) => {{
        static PATTERN: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($pattern).expect("the pattern is a constant of this file"));
        &*PATTERN
    }};
}

/// Returns true for a part of a Service's name: it begins with a letter (RFC 1035).
pub(super) fn is_name_part(text: &str) -> bool {
    pattern!("^[a-z]([-a-z0-9]*[a-z0-9])?$").is_match(text)
}

/// Returns true for a DNS subdomain: labels separated by dots.
pub(super) fn is_object_name(text: &str) -> bool {
    text.len() <= OBJECT_NAME_LIMIT
        && pattern!(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").is_match(text)
}

/// Returns true for a repository without tag or digest. Only a host, recognised by a dot or port,
/// may have capital letters.
pub(super) fn is_image_repository(text: &str) -> bool {
    pattern!(
        r"^((localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+:[0-9]+)(:[0-9]+)?/)?[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$"
    )
    .is_match(text)
}

pub(super) fn is_image_tag(text: &str) -> bool {
    pattern!(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$").is_match(text)
}

/// Returns true for an amount of memory in Valkey's units (`memtoull`).
pub(super) fn is_valkey_memory(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    digits <= MEMORY_DIGITS && pattern!("(?i)^[0-9]+(b|k|kb|m|mb|g|gb)?$").is_match(text)
}

pub(super) fn is_percentage(text: &str) -> bool {
    pattern!("^(100|[0-9]{1,2})%$").is_match(text)
}

/// Returns true for a `prefix/name` that Kubernetes allows as a label or annotation key.
pub(super) fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_object_name)
        && pattern!("^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$").is_match(name)
}

/// Returns true for a label value: empty, or at most 63 characters.
pub(crate) fn is_label_value(text: &str) -> bool {
    text.is_empty() || pattern!("^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$").is_match(text)
}

/// Returns true for addresses separated by spaces, for `bind`. A dash makes an address optional.
pub(super) fn are_addresses(text: &str) -> bool {
    text.split(' ')
        .all(|word| word.strip_prefix('-').unwrap_or(word).parse::<IpAddr>().is_ok())
}

/// Returns true for flags that the image's entrypoint passes on unchanged. It splits at spaces,
/// expands file name patterns and knows no quotes. The chart puts the flags between double quotes.
pub(super) fn are_flags(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c.is_control() || matches!(c, '"' | '\'' | '\\' | '*' | '?' | '['))
}

pub(super) fn capabilities() -> impl Iterator<Item = &'static str> {
    CAPABILITIES.split_ascii_whitespace()
}

/// Returns the number behind a Kubernetes quantity (grammar of `resource.Quantity`), or `None`. It
/// is a floating-point number: fit for comparison, not for sums.
pub(super) fn quantity(text: &str) -> Option<f64> {
    let grammar =
        pattern!(r"^([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([KMGTPE]i|[numkMGTPE])|([eE][+-]?[0-9]+))?$");
    let parts = grammar.captures(text)?;
    if let Some(exponent) = parts.get(3) {
        return format!("{}{}", &parts[1], exponent.as_str()).parse().ok();
    }
    let number: f64 = parts[1].parse().ok()?;
    let unit = parts.get(2).map_or("", |unit| unit.as_str());
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
        .iter()
        .position(|known| *known == unit);
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"]
        .iter()
        .position(|known| *known == unit);
    let factor = match (binary, decimal) {
        (Some(power), _) => 1024_f64.powi(i32::try_from(power).ok()? + 1),
        (None, power) => 1000_f64.powi(i32::try_from(power?).ok()? - 3),
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_follow_the_kubernetes_grammar() {
        for (text, amount) in [
            ("8Gi", 8.0 * 1_073_741_824.0),
            ("0.5", 0.5),
            ("1e3", 1000.0),
            ("1E", 1e18),
            ("+1", 1.0),
            (".5Ki", 512.0),
            ("-1k", -1000.0),
            ("0.0", 0.0),
        ] {
            let read = quantity(text).unwrap_or_else(|| panic!("{text} is a quantity"));
            assert!((read - amount).abs() < 1e-9, "{text}: {read}");
        }
        assert!(quantity("250m").is_some_and(|cpu| cpu < 0.3));
        for bad in ["", "8GB", "8 Gi", "Gi", "1.2.3", "8gi", "1Ki2"] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
    }

    #[test]
    fn repositories_have_lower_case_paths_and_no_tag() {
        for good in [
            "valkey",
            "perconalab/valkey",
            "ghcr.io/a/b__c-d",
            "localhost/x",
            "Registry.Example:5000/a",
            "host:5000/a",
        ] {
            assert!(is_image_repository(good), "{good}");
        }
        for bad in [
            "",
            "PerconaLab/valkey",
            "valkey:9",
            "a//b",
            "a/",
            "/a",
            "a@sha256:00",
            "a b",
        ] {
            assert!(!is_image_repository(bad), "{bad}");
        }
    }

    #[test]
    fn object_names_are_labels_with_single_dots() {
        assert!(is_object_name("a.b-c.9"));
        for bad in ["a..b", "a.-b", "-a", "a_", "A", ".a"] {
            assert!(!is_object_name(bad), "{bad}");
        }
        assert!(!is_object_name(&"a".repeat(254)));
    }
}
