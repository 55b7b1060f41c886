//! What a person reads at the end: the table of scenarios and combinations, the failures and how to run them again, the
//! slowest trials, the verdict.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::file::REPORT_FILE;
use super::model::{Outcome, RunReport, RunVerdict, TrialReport};
use super::style::Style;

/// How many of the slowest trials are named.
const SLOWEST: usize = 3;

/// How many lines of a failure are shown: one broken promise can be broken on every node, and the evidence has them all.
const MESSAGE_LINES: usize = 16;

/// Renders the whole summary. `folder` is where the report was written, `kept` how to reach what was kept.
pub fn render(report: &RunReport, folder: &Path, kept: Option<&str>, style: Style) -> String {
    let mut text = String::from("\n");
    text.push_str(&table(&report.trials, style));
    // That an interrupted run's trials did not end is said once, by the verdict.
    let telling = |outcome: &Outcome| match outcome {
        Outcome::Passed => false,
        Outcome::Skipped { .. } => !report.interrupted,
        Outcome::Failed { .. } | Outcome::Invalid { .. } | Outcome::Broken { .. } => true,
    };
    for trial in report.trials.iter().filter(|trial| telling(&trial.outcome)) {
        text.push_str(&details(trial, report, folder, style));
    }
    text.push_str(&slowest(&report.trials));
    text.push_str(&compared(report));
    if let Some(kept) = kept {
        let _ = writeln!(text, "kept: {kept}");
    }
    let _ = writeln!(text, "report: {}", folder.join(REPORT_FILE).display());
    let _ = write!(
        text,
        "{}: {}",
        verdict_words(report.verdict, style),
        report.because
    );
    let _ = write!(text, " ({})", took(report.duration_ms));
    text
}

/// The command that runs one trial again under the same conditions.
pub fn reproduce(trial: &TrialReport, report: &RunReport) -> String {
    let own = format!(
        "cargo xtask e2e --scenario {}::{} --mode {} --variant {} --profile {} --seed {}",
        trial.suite,
        trial.scenario,
        trial.mode,
        trial.variant,
        report.profile,
        trial.record.seed.unwrap_or(report.seed)
    );
    let arguments = report.deployment.arguments.iter();
    arguments.fold(own, |command, word| format!("{command} {}", quoted(word)))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Why a trial did not pass, in full: the cause (or that none is known, and the most telling facts), then what was seen.
pub fn explanation(trial: &TrialReport) -> String {
    let mut text = String::new();
    match &trial.outcome {
        Outcome::Passed => {}
        Outcome::Failed { cause, message } => {
            text.push_str(&likely(cause.as_deref(), &trial.record.facts));
            let _ = writeln!(text, "{message}");
        }
        Outcome::Skipped { reason } | Outcome::Invalid { reason } | Outcome::Broken { reason } => {
            let _ = writeln!(text, "{reason}");
        }
    }
    text
}

/// The cause, or that no rule knows one, and where to look first.
fn likely(cause: Option<&str>, facts: &[String]) -> String {
    match (cause, facts) {
        (Some(cause), _) => format!("most likely: {cause}\n"),
        (None, []) => String::new(),
        (None, facts) => {
            let facts: String = facts.iter().map(|fact| format!("  - {fact}\n")).collect();
            format!("no known cause fits; the most telling facts:\n{facts}")
        }
    }
}

/// Scenarios down and combinations across, both in the order in which they first occur.
fn table(trials: &[TrialReport], style: Style) -> String {
    let rows = distinct(trials.iter().map(TrialReport::story));
    let columns = distinct(trials.iter().map(TrialReport::combination));
    let cells: BTreeMap<(String, String), &TrialReport> = trials
        .iter()
        .map(|trial| ((trial.story(), trial.combination()), trial))
        .collect();
    let first = rows.iter().map(String::len).max().unwrap_or(0);
    let mut text = format!("{:first$}", "");
    for column in &columns {
        let _ = write!(text, "  {column}");
    }
    text.push('\n');
    for row in &rows {
        let mut line = format!("{row:first$}");
        for column in &columns {
            let found = cells.get(&(row.clone(), column.clone()));
            let shown = found.map_or_else(
                || style.faint(&pad("·", column)),
                |trial| cell(trial, column, style),
            );
            let _ = write!(line, "  {shown}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Each text once, in the order of first occurrence.
pub(super) fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for text in texts {
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen
}

fn cell(trial: &TrialReport, head: &str, style: Style) -> String {
    let word = trial.outcome.word();
    match trial.outcome {
        Outcome::Passed => style.good(&pad(&format!("{word} {}", took(trial.duration_ms)), head)),
        Outcome::Failed { .. } => style.bad(&pad(&format!("{word} {}", took(trial.duration_ms)), head)),
        Outcome::Skipped { .. } => style.faint(&pad(word, head)),
        Outcome::Invalid { .. } | Outcome::Broken { .. } => style.doubtful(&pad(word, head)),
    }
}

fn pad(text: &str, head: &str) -> String {
    format!("{text:width$}", width = head.chars().count())
}

fn details(trial: &TrialReport, report: &RunReport, folder: &Path, style: Style) -> String {
    let mut text = format!(
        "\n{}\n",
        style.bad(&format!("{} {}", trial.outcome.word(), trial.name))
    );
    match &trial.outcome {
        Outcome::Passed => {}
        Outcome::Failed { cause, message } => {
            for line in likely(cause.as_deref(), &trial.record.facts).lines() {
                let _ = writeln!(text, "  {line}");
            }
            let lines: Vec<&str> = message.lines().collect();
            for line in lines.iter().take(MESSAGE_LINES) {
                let _ = writeln!(text, "  {line}");
            }
            if lines.len() > MESSAGE_LINES {
                let _ = writeln!(
                    text,
                    "  … {} lines more in the evidence",
                    lines.len() - MESSAGE_LINES
                );
            }
        }
        Outcome::Skipped { reason } | Outcome::Invalid { reason } | Outcome::Broken { reason } => {
            let _ = writeln!(text, "  {reason}");
        }
    }
    if let Some(evidence) = &trial.evidence {
        let _ = writeln!(text, "  evidence: {}", folder.join(evidence).display());
    }
    for problem in &trial.cleanup {
        let _ = writeln!(text, "  not cleaned up: {problem}");
    }
    if !matches!(trial.outcome, Outcome::Skipped { .. }) {
        let _ = writeln!(text, "  again: {}", reproduce(trial, report));
    }
    text
}

fn slowest(trials: &[TrialReport]) -> String {
    let mut ran: Vec<&TrialReport> = trials
        .iter()
        .filter(|trial| !matches!(trial.outcome, Outcome::Skipped { .. }))
        .collect();
    if ran.len() < 2 {
        return String::from("\n");
    }
    ran.sort_by_key(|trial| std::cmp::Reverse(trial.duration_ms));
    let named: Vec<String> = ran
        .iter()
        .take(SLOWEST)
        .map(|trial| format!("{} {}", trial.name, took(trial.duration_ms)))
        .collect();
    format!("\nslowest: {}\n", named.join(", "))
}

/// What is different from the earlier run that a person named, or from the one before where something got worse.
pub fn compared(report: &RunReport) -> String {
    let Some(baseline) = &report.baseline else {
        return String::new();
    };
    let changes = &baseline.changes;
    let mut text = String::new();
    let mut line = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            let _ = writeln!(text, "{what} since {}: {}", baseline.run, names.join(", "));
        }
    };
    let pace = |pace: &super::baseline::Pace| {
        format!(
            "{} {} → {}",
            pace.trial,
            took(pace.before_ms),
            took(pace.after_ms)
        )
    };
    line("REGRESSION", changes.new_failures.clone());
    line("fixed", changes.fixed.clone());
    line("slower", changes.slower.iter().map(pace).collect());
    let promise = |change: &super::baseline::PromiseChange| {
        format!(
            "{} in {}: {} → {}",
            change.promise, change.trial, change.before, change.after
        )
    };
    line("promises changed", changes.promises.iter().map(promise).collect());
    if baseline.asked_for && text.is_empty() {
        let _ = writeln!(text, "no regression since {}", baseline.run);
    }
    text
}

fn verdict_words(verdict: RunVerdict, style: Style) -> String {
    match verdict {
        RunVerdict::Qualified => style.good("QUALIFIED"),
        RunVerdict::NotQualified => style.bad("NOT QUALIFIED"),
        RunVerdict::Inconclusive => style.doubtful("INCONCLUSIVE"),
    }
}

pub(super) fn took(duration_ms: u64) -> String {
    format!("{:.1} s", Duration::from_millis(duration_ms).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::tests_support::{report, trial};

    #[test]
    fn the_table_has_a_cell_for_every_combination() {
        let trials = vec![
            trial("formation", "forms", "cluster", "rpm", Outcome::Passed),
            trial("formation", "forms", "standalone", "hardened", Outcome::Passed),
            trial(
                "formation",
                "nine",
                "cluster",
                "rpm",
                Outcome::Skipped { reason: "x".into() },
            ),
        ];
        insta::assert_snapshot!(table(&trials, Style::PLAIN));
    }

    #[test]
    fn a_failure_names_its_cause_its_evidence_and_the_command_that_repeats_it() {
        let mut failed = trial(
            "formation",
            "forms",
            "cluster",
            "rpm",
            Outcome::Failed {
                cause: Some("replicas cannot authenticate: masterauth is missing".into()),
                message: "replica vk-3: link is down\nreplica vk-4: link is down".into(),
            },
        );
        failed.evidence = Some("evidence/formation-forms-cluster-rpm".into());
        let report = report(vec![
            failed,
            trial("connection", "x", "standalone", "rpm", Outcome::Passed),
        ]);
        insta::assert_snapshot!(render(&report, Path::new("reports/r1"), None, Style::PLAIN));
    }

    #[test]
    fn the_command_that_repeats_a_trial_has_everything_that_was_not_the_default() {
        let again = |arguments: &[&str]| {
            let failed = trial("formation", "forms", "cluster", "rpm", Outcome::Passed);
            let mut report = report(vec![failed.clone()]);
            report.deployment.arguments = arguments.iter().map(|&word| word.to_owned()).collect();
            reproduce(&failed, &report)
        };
        let own = "cargo xtask e2e --scenario formation::forms --mode cluster --variant rpm --profile fast --seed 7";
        assert_eq!(again(&[]), own);
        assert_eq!(
            again(&["--chart", "my charts/it's", "--set", "auth.password=[redacted]"]),
            format!(r"{own} --chart 'my charts/it'\''s' --set 'auth.password=[redacted]'")
        );
    }
}
