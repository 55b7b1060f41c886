//! Lines in a server's log that mean trouble, whatever the server does next.

use super::Violation;

/// The check's name.
pub const NAME: &str = "logs";

/// Patterns to look for, each with its meaning. The texts are those of valkey-server 8 and 9,
/// compared case-insensitively.
const PATTERNS: &[(&str, &str)] = &[
    (
        "unrecoverable error: corrupted cluster config",
        "nodes.conf cannot be read: the node never starts again",
    ),
    (
        "shard id",
        "the shard id in nodes.conf is not the one the cluster has",
    ),
    (
        "bad file format reading the append only file",
        "the append-only file is damaged",
    ),
    (
        "unexpected end of file reading the append only file",
        "the append-only file is cut off",
    ),
    (
        "misconf",
        "writes are refused because the dataset cannot be saved",
    ),
    ("no space left on device", "the data volume is full"),
    (
        "can't save in background",
        "a background save could not be started",
    ),
    ("bug report start", "the server crashed"),
    ("=== valkey bug report", "the server crashed"),
    ("out of memory", "the server ran out of memory"),
    ("fatal config file error", "the configuration was not accepted"),
];

/// Words that distinguish a complaint about shard IDs from a mere mention of one.
const SHARD_ID_COMPLAINTS: &[&str] = &["differs", "mismatch", "invalid", "conflict"];

/// Finds lines that mean trouble in `text`, the log of `pod`'s server.
pub fn check(pod: &str, text: &str) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    for line in text.lines() {
        let lower = line.to_lowercase();
        let found = PATTERNS.iter().find(|(pattern, _)| {
            lower.contains(pattern)
                && (*pattern != "shard id" || SHARD_ID_COMPLAINTS.iter().any(|word| lower.contains(word)))
        });
        let Some((_, meaning)) = found else { continue };
        // One violation per meaning: a crash report has hundreds of lines.
        match violations.iter_mut().find(|violation| violation.seen == *meaning) {
            Some(known) if known.evidence.len() < 3 => known.evidence.push(line.trim().to_owned()),
            Some(_) => {}
            None => violations.push(
                Violation::new(NAME, pod, "no sign of trouble in its log", *meaning)
                    .with_evidence(line.trim()),
            ),
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_start_is_silent() {
        let log = "1:C 22 Nov 2026 * oO0OoO0OoO0Oo Valkey is starting\n1:M * Node configuration loaded, I'm f05f\n\
                   1:M * Ready to accept connections tcp\n1:S * Full resync from primary: 5455a092:14\n\
                   1:M * Address updated for node f05f, now 10.0.0.4:6379, shard id 69bc";
        assert_eq!(check("valkey-0", log), []);
    }

    #[test]
    fn trouble_is_named_once_with_its_lines() {
        let log = "1:M # Unrecoverable error: corrupted cluster config file \"vars\".\n1:M # Shard ID 69bc of node f05f differs from its primary's\n1:M # Shard ID 69bd of node f05e differs from its primary's";
        let violations = check("valkey-2", log);
        assert_eq!(violations.len(), 2);
        assert_eq!(
            violations[0].seen,
            "nodes.conf cannot be read: the node never starts again"
        );
        assert_eq!(violations[1].evidence.len(), 2);
    }
}
