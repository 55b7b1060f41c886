//! Markdown: the summary that GitHub shows below a job, and a note for a release.
//!
//! A step's summary may have 1 MiB. Further content is counted, and is in the HTML report.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::known::AcceptanceState;
use super::model::{Outcome, RunReport, RunVerdict, TrialReport};
use super::summary::{distinct, explanation, reproduce, took};

/// The summary's file name within a report's folder.
pub const SUMMARY_FILE: &str = "summary.md";

/// The note's file name within a report's folder.
pub const RELEASE_NOTE_FILE: &str = "release-note.md";

/// GitHub refuses a step's summary beyond 1 MiB. Other steps of a job write into it too.
const LIMIT: usize = 900 * 1024;

/// Maximum characters of one failure. A release has many nodes, and the report has the whole text.
const DETAIL: usize = 8 * 1024;

/// Writes the summary for a CI job.
pub fn write_summary(report: &RunReport, out: &mut dyn Write) -> io::Result<()> {
    let mut text = heading(report);
    text.push_str(&findings(report));
    text.push_str(&changes(report));
    text.push_str(&table(report));
    let mut telling = report
        .trials
        .iter()
        .filter(|trial| is_telling(trial, report))
        .peekable();
    if telling.peek().is_some() {
        text.push_str("\n### Trials that did not pass\n");
    }
    let mut left_out = 0;
    for trial in telling {
        let details = details(trial, report);
        if text.len() + details.len() > LIMIT {
            left_out += 1;
        } else {
            text.push_str(&details);
        }
    }
    if left_out > 0 {
        let _ = writeln!(text, "\n… {left_out} more are in `report.html`.");
    }
    text.push_str(&provenance(report));
    out.write_all(text.as_bytes())
}

/// Writes the note for a release: the subject, the cluster, and the limits of the qualification.
pub fn write_release_note(report: &RunReport, out: &mut dyn Write) -> io::Result<()> {
    let mut text = heading(report);
    let _ = writeln!(
        text,
        "\n| suite | passed | failed | inconclusive | skipped |\n|---|--:|--:|--:|--:|"
    );
    for suite in distinct(report.trials.iter().map(|trial| trial.suite.clone())) {
        let count = |matching: fn(&Outcome) -> bool| {
            let of_suite = report.trials.iter().filter(|trial| trial.suite == suite);
            of_suite.filter(|trial| matching(&trial.outcome)).count()
        };
        let _ = writeln!(
            text,
            "| {suite} | {} | {} | {} | {} |",
            count(|outcome| matches!(outcome, Outcome::Passed)),
            count(Outcome::is_failure),
            count(Outcome::is_doubtful),
            count(|outcome| matches!(outcome, Outcome::Skipped { .. })),
        );
    }
    text.push_str(&findings(report));
    let alone = |trial: &&TrialReport| trial.outcome.is_failure() && trial.record.defects.is_empty();
    for trial in report.trials.iter().filter(alone) {
        let headline = trial.headline().unwrap_or_default();
        let _ = writeln!(text, "\n- **{}**: {}", trial.name, inline(headline));
    }
    text.push_str(&provenance(report));
    out.write_all(text.as_bytes())
}

fn heading(report: &RunReport) -> String {
    let mark = match report.verdict {
        RunVerdict::Qualified | RunVerdict::QualifiedWithKnownFindings => "✅",
        RunVerdict::NotQualified => "❌",
        RunVerdict::Inconclusive => "⚠️",
    };
    let mut text = format!(
        "## {mark} {}: {}\n",
        capitalised(report.verdict.words()),
        inline(&report.because)
    );
    let stand_ins = report
        .provenance
        .images
        .iter()
        .filter(|image| image.stand_in)
        .count();
    if stand_ins > 0 {
        text.push_str("\n> **Stand-in images**: this qualifies the deployment, not the images.\n");
    }
    text
}

/// Renders the findings, the worst first.
fn findings(report: &RunReport) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n### Findings\n\n");
    for (number, finding) in report.findings.iter().enumerate() {
        let _ = writeln!(
            text,
            "{}. **{}**: {}  \n   breaks {}; in {}{}  \n   `{}`",
            number + 1,
            inline(&finding.title),
            inline(&shortened(&finding.text)),
            inline(&finding.promises.join(", ")),
            named(&finding.trials),
            blocked(&finding.blocked),
            finding.id,
        );
        if let Some(known) = &finding.known {
            let link = known
                .link
                .as_deref()
                .map(|link| format!(", {}", inline(link)))
                .unwrap_or_default();
            let _ = writeln!(
                text,
                "   known until {}: {}{link}",
                known.until,
                inline(&known.reason)
            );
        }
    }
    for entry in &report.known {
        let state = match entry.state {
            AcceptanceState::Used => continue,
            AcceptanceState::Unused => "matches no finding of this run and can be removed",
            AcceptanceState::Expired => "has expired: the findings that it accepted count as new",
        };
        let _ = writeln!(
            text,
            "\n> the known finding `{}` {state} (until {})",
            entry.id, entry.until
        );
    }
    text
}

/// Number of a finding's trials to name.
const TRIALS: usize = 3;

/// Maximum characters of a finding's text.
const FINDING: usize = 600;

fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    super::layout::shortened(line, FINDING)
}

fn named(trials: &[String]) -> String {
    let names: Vec<String> = trials
        .iter()
        .take(TRIALS)
        .map(|name| format!("`{name}`"))
        .collect();
    match trials.len().saturating_sub(TRIALS) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn blocked(trials: &[String]) -> String {
    match trials.len() {
        0 => String::new(),
        1 => format!(", blocks `{}`", trials[0]),
        more => format!(", blocks {more} trials"),
    }
}

fn changes(report: &RunReport) -> String {
    let Some(baseline) = &report.baseline else {
        return String::new();
    };
    let mut text = String::new();
    let changes = &baseline.changes;
    for (what, trials) in [("New failures", &changes.new_failures), ("Fixed", &changes.fixed)] {
        if !trials.is_empty() {
            let names: Vec<String> = trials.iter().map(|name| format!("`{name}`")).collect();
            let _ = writeln!(
                text,
                "\n**{what}** since `{}`: {}",
                baseline.run,
                names.join(", ")
            );
        }
    }
    text
}

fn table(report: &RunReport) -> String {
    let columns = distinct(report.trials.iter().map(TrialReport::combination));
    let cells: HashMap<(String, String), &TrialReport> = report
        .trials
        .iter()
        .map(|trial| ((trial.story(), trial.combination()), trial))
        .collect();
    let mut text = format!("\n| | {} |\n|---|", columns.join(" | "));
    text.push_str(&"---|".repeat(columns.len()));
    text.push('\n');
    for row in distinct(report.trials.iter().map(TrialReport::story)) {
        let _ = write!(text, "| {row} |");
        for column in &columns {
            let found = cells.get(&(row.clone(), column.clone()));
            let _ = write!(
                text,
                " {} |",
                found.map_or_else(|| "·".to_owned(), |trial| cell(trial))
            );
        }
        text.push('\n');
    }
    text
}

fn cell(trial: &TrialReport) -> String {
    match trial.outcome {
        Outcome::Passed => format!("✅ {}", took(trial.duration_ms)),
        Outcome::Failed { .. } => format!("❌ **FAIL** {}", took(trial.duration_ms)),
        Outcome::Blocked { .. } => "🚫 blocked".to_owned(),
        Outcome::Skipped { .. } => "⏭️ skip".to_owned(),
        Outcome::Invalid { .. } => "⚠️ invalid".to_owned(),
        Outcome::Broken { .. } => "⚠️ broken".to_owned(),
        Outcome::Interrupted { .. } => "⏹️ interrupted".to_owned(),
    }
}

fn is_telling(trial: &TrialReport, report: &RunReport) -> bool {
    match trial.outcome {
        // The blocking finding already lists the trial.
        Outcome::Passed | Outcome::Blocked { .. } | Outcome::Interrupted { .. } => false,
        Outcome::Skipped { .. } => !report.interrupted,
        Outcome::Failed { .. } | Outcome::Invalid { .. } | Outcome::Broken { .. } => true,
    }
}

fn details(trial: &TrialReport, report: &RunReport) -> String {
    let headline = trial.headline().unwrap_or_default();
    let summary = format!(
        "<b>{} {}</b>: {}",
        trial.outcome.word(),
        trial.name,
        html(headline)
    );
    if matches!(trial.outcome, Outcome::Skipped { .. }) {
        return format!("\n- {summary}\n");
    }
    let mut full = explanation(trial);
    if full.len() > DETAIL {
        let end = full.floor_char_boundary(DETAIL);
        full.truncate(end);
        full.push_str("\n…\n");
    }
    format!(
        "\n<details><summary>{summary}</summary>\n\n{}\n\n{}\n\n</details>\n",
        fenced(&full),
        fenced(&reproduce(trial, report))
    )
}

fn provenance(report: &RunReport) -> String {
    let mut text = String::from("\n<details><summary>Subject and environment</summary>\n\n");
    let deployment = &report.deployment;
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "- {name}: {}", inline(value));
    };
    row("run", &format!("{} at {}", report.run, report.started));
    row(
        "project commit",
        deployment.commit.as_deref().unwrap_or("unknown"),
    );
    row("deployed", &deployment.subject());
    if let Some(chart) = &deployment.chart {
        row("helm", &chart.helm);
        for (what, names) in [
            ("objects", &chart.objects_beyond_readme),
            ("values", &chart.values_beyond_readme),
        ] {
            if !names.is_empty() {
                row(
                    &format!("{what} beyond the README, not judged"),
                    &names.join(", "),
                );
            }
        }
    }
    row("manifests", &deployment.manifests_digest);
    row("cluster", &report.provenance.to_string());
    for image in &report.provenance.images {
        let server = image.server_version.as_deref().unwrap_or("unknown");
        let what = if image.stand_in {
            "stand-in"
        } else {
            "published image"
        };
        row(
            &format!("image `{}`", image.reference),
            &format!("{} ({what}, server {server})", image.digest),
        );
    }
    row("profile", &report.profile);
    row("seed", &report.seed.to_string());
    text.push_str("\n</details>\n");
    text
}

/// Renders a block that nothing in `text` can end.
fn fenced(text: &str) -> String {
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}text\n{}\n{fence}", text.trim_end())
}

/// Returns `text` on one line, with Markdown and HTML escaped.
fn inline(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in html(text).replace('\n', " ").chars() {
        if matches!(character, '|' | '*' | '_' | '`' | '[' | ']' | '\\') {
            plain.push('\\');
        }
        plain.push(character);
    }
    plain
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::samples::{report, trial};

    fn failed(message: &str) -> Outcome {
        Outcome::Failed {
            cause: Some("<b>masterauth</b> is | not set".into()),
            message: message.into(),
        }
    }

    fn summary(report: &RunReport) -> String {
        let mut out = Vec::new();
        write_summary(report, &mut out).expect("memory can be written to");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_summary_has_the_verdict_the_grid_and_each_failure_folded() {
        let run = report(vec![
            trial("formation", "forms", "standalone", "rpm", Outcome::Passed),
            trial(
                "formation",
                "forms",
                "cluster",
                "rpm",
                failed("replica vk-3\n```\nlink down"),
            ),
            trial(
                "formation",
                "nine",
                "cluster",
                "rpm",
                Outcome::Skipped {
                    reason: "one node".into(),
                },
            ),
        ]);
        insta::assert_snapshot!(summary(&run));
    }

    #[test]
    fn a_summary_stays_below_githubs_limit_and_counts_the_rest() {
        let long = "x".repeat(20_000);
        let trials =
            (0..1000).map(|number| trial("s", &format!("t{number}"), "cluster", "rpm", failed(&long)));
        let text = summary(&report(trials.collect()));
        assert!(text.len() < 1024 * 1024, "{}", text.len());
        assert!(text.contains(" more are in `report.html`"));
        assert!(text.contains("Subject and environment"), "the end is there too");
    }

    #[test]
    fn a_release_note_counts_by_suite() {
        let run = report(vec![
            trial("formation", "forms", "standalone", "rpm", Outcome::Passed),
            trial("formation", "forms", "cluster", "rpm", failed("x")),
        ]);
        let mut out = Vec::new();
        write_release_note(&run, &mut out).expect("memory can be written to");
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("| formation | 1 | 1 | 0 | 0 |"), "{text}");
    }

    #[test]
    fn findings_come_before_the_grid_with_markdown_escaped() {
        use crate::finding::tests::{defect, failed};
        let mut evil = defect("x", "data");
        evil.text = "<script> | *bold* `code`".to_owned();
        let mut run = report(vec![failed("s", "a", "upgrade", vec![evil])]);
        crate::verdict::conclude(&mut run, None, jiff::civil::date(2026, 7, 1));
        let text = summary(&run);
        assert!(
            text.find("### Findings") < text.find("| | cluster-rpm |"),
            "{text}"
        );
        assert!(
            text.contains("&lt;script&gt; \\| \\*bold\\* \\`code\\`"),
            "{text}"
        );
    }
}
