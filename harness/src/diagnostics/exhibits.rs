//! The ends of the evidence's texts, for reports that are read without the evidence's folder.

use super::evidence::Evidence;
use crate::report::record::Exhibit;

/// Number of lines kept of one text. They cover a loaded server's last minute, or a crash and its
/// lead-up.
const LINES: usize = 60;

/// Number of bytes kept of one text. Few lines are long, but these must not swell the report.
const BYTES: usize = 8 * 1024;

/// Number of texts: two for each pod of a large cluster, and those of the hooks.
const TEXTS: usize = 40;

/// Returns the ends of the logs and of `nodes.conf`. Logs of hooks and of crashed containers come
/// first.
pub fn exhibits(evidence: &Evidence) -> Vec<Exhibit> {
    let logs = evidence
        .logs
        .iter()
        .map(|(name, text)| (format!("{name} log"), text));
    let tables = evidence
        .nodes_conf
        .iter()
        .map(|(pod, text)| (format!("{pod} nodes.conf"), text));
    let mut texts: Vec<(String, &String)> = logs.chain(tables).collect();
    texts.sort_by_key(|(name, _)| (!name.contains("(previous)"), name.ends_with("nodes.conf")));
    texts
        .into_iter()
        .filter(|(_, text)| !text.trim().is_empty())
        .take(TEXTS)
        .map(|(name, text)| end_of(name, text))
        .collect()
}

fn end_of(name: String, text: &str) -> Exhibit {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let mut bytes = 0;
    let kept = lines
        .iter()
        .rev()
        .take(LINES)
        .take_while(|line| {
            bytes += line.len() + 1;
            bytes <= BYTES
        })
        .count();
    let (omitted, shown) = lines.split_at(lines.len() - kept);
    Exhibit {
        name,
        text: shown.join("\n"),
        omitted_lines: omitted.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exhibit_keeps_the_end_and_counts_the_omitted_lines() {
        let text: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let end = end_of("vk-0/valkey log".to_owned(), &text);
        assert_eq!(end.omitted_lines, 40);
        assert!(end.text.starts_with("line 40\n") && end.text.ends_with("line 99"));
        assert_eq!(end_of("x".to_owned(), &"y".repeat(BYTES)).omitted_lines, 1);
    }
}
