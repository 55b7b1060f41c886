//! The summary at the end of a run, for a person:
//! - the [table](super::grid) of scenarios and combinations,
//! - the failures, with the commands that run them again,
//! - the slowest trials and the verdict.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::baseline::{Pace, PromiseShift, shifts};
use super::file::REPORT_FILE;
use super::grid;
use super::known::AcceptanceState;
use super::layout::{command, shortened, wrapped};
use super::model::{Outcome, RunReport, RunVerdict, TrialReport};
use super::style::Style;

/// Number of the slowest trials to name.
const SLOWEST: usize = 3;

/// Maximum lines of a failure. A promise can be broken on every node, and the evidence has all
/// lines.
const MESSAGE_LINES: usize = 16;

/// Maximum number of listed promise changes. An extended suite has one for each of its checks.
const SHIFTS: usize = 5;

/// Renders the whole summary. `folder` has the report, and `kept` is a command that gives access to
/// what was kept.
pub fn render(report: &RunReport, folder: &Path, kept: Option<&str>, style: Style) -> String {
    let mut text = String::from("\n");
    text.push_str(&findings(report, style));
    text.push_str(&grid::table(&report.trials, style));
    // The verdict reports interrupted trials once for all.
    let telling = |outcome: &Outcome| match outcome {
        // The blocking finding already lists the trial.
        Outcome::Passed | Outcome::Blocked { .. } | Outcome::Interrupted { .. } => false,
        Outcome::Skipped { .. } => !report.interrupted,
        Outcome::Failed { .. } | Outcome::Invalid { .. } | Outcome::Broken { .. } => true,
    };
    for trial in report.trials.iter().filter(|trial| telling(&trial.outcome)) {
        text.push_str(&details(trial, report, folder, style));
    }
    let mut end = slowest(&report.trials);
    end.push_str(&compared(report, style));
    if let Some(kept) = kept {
        let _ = writeln!(end, "kept: {kept}");
    }
    let _ = writeln!(end, "report: {}", folder.join(REPORT_FILE).display());
    let _ = write!(
        end,
        "{}: {} ({})",
        verdict_words(report.verdict, style),
        report.because,
        took(report.duration_ms)
    );
    text.push_str(&wrapped(&end, style.width()));
    text
}

/// Number of a finding's trials to name.
const TRIALS: usize = 3;

/// Maximum characters of a finding's text. The report has the whole text.
const FINDING: usize = 400;

/// Renders the findings, the worst first, and the state of the known ones.
fn findings(report: &RunReport, style: Style) -> String {
    let mut text = String::new();
    for (number, finding) in report.findings.iter().enumerate() {
        let known = if finding.known.is_some() { " (known)" } else { "" };
        let head = format!("finding {}: {}{known}", number + 1, finding.title);
        let _ = writeln!(text, "{}", style.bad(&wrapped(&head, style.width())));
        let line = finding.text.lines().next().unwrap_or_default();
        let mut body = format!("  {}\n", shortened(line, FINDING));
        let _ = writeln!(
            body,
            "  breaks {}; in {}",
            finding.promises.join(", "),
            named(&finding.trials)
        );
        if !finding.blocked.is_empty() {
            let _ = writeln!(body, "  blocks {}", named(&finding.blocked));
        }
        if let Some(known) = &finding.known {
            let _ = writeln!(body, "  known until {}: {}", known.until, known.reason);
        }
        let _ = writeln!(body, "  id: {}", finding.id);
        let _ = writeln!(text, "{}", wrapped(body.trim_end(), style.width()));
    }
    for entry in &report.known {
        let state = match entry.state {
            AcceptanceState::Used => continue,
            AcceptanceState::Unused => "matches no finding of this run and can be removed",
            AcceptanceState::Expired => "has expired: the findings that it accepted count as new",
        };
        let line = format!("known finding {} {state} (until {})", entry.id, entry.until);
        let _ = writeln!(text, "{}", wrapped(&line, style.width()));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Names the first of these trials, and counts the others.
fn named(trials: &[String]) -> String {
    let first = trials.iter().take(TRIALS).cloned().collect::<Vec<_>>().join(", ");
    match trials.len().saturating_sub(TRIALS) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Returns the command that runs one trial again under the same conditions.
pub fn reproduce(trial: &TrialReport, report: &RunReport) -> String {
    let own = format!(
        "{} e2e --scenario {}::{} --mode {} --variant {} --profile {} --seed {}",
        settings::program(),
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

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Explains in full why a trial did not pass. The cause or the most useful facts come first, then
/// the observation.
pub fn explanation(trial: &TrialReport) -> String {
    let mut text = String::new();
    match &trial.outcome {
        Outcome::Passed => {}
        Outcome::Failed { cause, message } => {
            text.push_str(&likely(cause.as_deref(), &trial.record.facts));
            let _ = writeln!(text, "{message}");
        }
        Outcome::Blocked { reason, .. }
        | Outcome::Skipped { reason }
        | Outcome::Invalid { reason }
        | Outcome::Broken { reason }
        | Outcome::Interrupted { reason } => {
            let _ = writeln!(text, "{reason}");
        }
    }
    text
}

/// Renders the cause; without a known one, the facts to look at first.
fn likely(cause: Option<&str>, facts: &[String]) -> String {
    match (cause, facts) {
        (Some(cause), _) => format!("most likely: {cause}\n"),
        (None, []) => String::new(),
        (None, facts) => {
            let facts: String = facts.iter().map(|fact| format!("  - {fact}\n")).collect();
            format!("no known cause fits; the most relevant facts:\n{facts}")
        }
    }
}

/// Returns each distinct text once, in order of first occurrence.
pub(super) fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = HashSet::new();
    texts.filter(|text| seen.insert(text.clone())).collect()
}

fn details(trial: &TrialReport, report: &RunReport, folder: &Path, style: Style) -> String {
    let mut text = String::new();
    match &trial.outcome {
        Outcome::Passed => {}
        Outcome::Failed { cause, message } => {
            text.push_str(&likely(cause.as_deref(), &trial.record.facts));
            let lines: Vec<&str> = message.lines().collect();
            for line in lines.iter().take(MESSAGE_LINES) {
                let _ = writeln!(text, "{line}");
            }
            if lines.len() > MESSAGE_LINES {
                let more = lines.len() - MESSAGE_LINES;
                let _ = writeln!(text, "… {more} lines more in the evidence");
            }
        }
        Outcome::Blocked { reason, .. }
        | Outcome::Skipped { reason }
        | Outcome::Invalid { reason }
        | Outcome::Broken { reason }
        | Outcome::Interrupted { reason } => {
            let _ = writeln!(text, "{reason}");
        }
    }
    if let Some(evidence) = &trial.evidence {
        let _ = writeln!(text, "evidence: {}", folder.join(evidence).display());
    }
    for problem in &trial.cleanup {
        let _ = writeln!(text, "not cleaned up: {problem}");
    }
    let head = format!("{} {}", trial.outcome.word(), trial.name);
    let indented: String = text.lines().map(|line| format!("  {line}\n")).collect();
    let mut text = format!(
        "\n{}\n{}",
        style.bad(&wrapped(&head, style.width())),
        wrapped(&indented, style.width())
    );
    if !matches!(trial.outcome, Outcome::Skipped { .. }) {
        let again = format!("  again: {}", reproduce(trial, report));
        text.push_str(&command(&again, style.width()));
        text.push('\n');
    }
    text
}

fn slowest(trials: &[TrialReport]) -> String {
    let mut ran: Vec<&TrialReport> = trials.iter().filter(|trial| trial.outcome.has_run()).collect();
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

/// Renders the differences from the earlier run. Without a difference, only a run that a person
/// named gets a line.
pub fn compared(report: &RunReport, style: Style) -> String {
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
    let pace = |pace: &Pace| {
        let (before, after) = (took(pace.before_ms), took(pace.after_ms));
        format!("{} {before} → {after}", pace.trial)
    };
    line("REGRESSION", changes.new_failures.clone());
    line("fixed", changes.fixed.clone());
    line("slower", changes.slower.iter().map(pace).collect());
    let shifts = shifts(&changes.promises);
    let mut told: Vec<String> = shifts.iter().take(SHIFTS).map(shift_words).collect();
    if shifts.len() > SHIFTS {
        told.push(format!("and {} more in the report", shifts.len() - SHIFTS));
    }
    line("promises changed", told);
    if baseline.asked_for && text.is_empty() {
        let _ = writeln!(text, "no regression since {}", baseline.run);
    }
    wrapped(&text, style.width())
}

/// Renders `bus: kept → broken in 2 trials`. A single trial is named.
fn shift_words(shift: &PromiseShift<'_>) -> String {
    let trials = match shift.trials.as_slice() {
        [one] => (*one).to_owned(),
        more => format!("{} trials", more.len()),
    };
    format!(
        "{}: {} → {} in {trials}",
        shift.promise, shift.before, shift.after
    )
}

fn verdict_words(verdict: RunVerdict, style: Style) -> String {
    match verdict {
        RunVerdict::Qualified => style.good("QUALIFIED"),
        RunVerdict::QualifiedWithKnownFindings => style.good("QUALIFIED WITH KNOWN FINDINGS"),
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
    use crate::model::samples::{report, trial};

    #[test]
    fn a_failure_names_its_cause_evidence_and_repeat_command() {
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
    fn the_repeat_command_has_everything_but_the_defaults() {
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

    #[test]
    fn on_a_narrow_terminal_no_line_is_wider_than_it_is() {
        let message = "install: post-install hook vk-percona-valkey-cluster-init failed while it waited for vk-0\n  \
                       - cluster_state: vk-percona-valkey-3: expected cluster_state:ok, saw cluster_state:fail, seen by vk-1";
        let mut failed = trial(
            "persistence",
            "data_survives_pod_deletion",
            "cluster",
            "rpm",
            Outcome::Failed {
                cause: Some("replica vk-4 never synced: its primary refuses its password".into()),
                message: message.into(),
            },
        );
        failed.evidence = Some("evidence/persistence-data_survives_pod_deletion-cluster-rpm".into());
        let passed = trial(
            "connection",
            "password_is_required",
            "standalone",
            "rpm",
            Outcome::Passed,
        );
        let report = report(vec![failed, passed]);
        for width in 40..=60 {
            let style = Style::PLAIN.within(Some(width));
            let text = render(
                &report,
                Path::new("reports/r1"),
                Some("kubectl --context x get pods"),
                style,
            );
            for line in text.lines().filter(|line| line.chars().count() > width) {
                let words = line.trim_end_matches(" \\").split_whitespace().count();
                assert_eq!(words, 1, "{width}: only one word may be wider: {line}\n{text}");
            }
            let words: Vec<&str> = text.split_whitespace().collect();
            let flat = words.join(" ");
            assert!(
                flat.contains("never synced") && flat.contains("--seed 7"),
                "{text}"
            );
        }
    }

    #[test]
    fn many_changed_promises_are_summed_up() {
        let mut before = report(
            (0..40)
                .map(|n| trial("s", &format!("a{n}"), "cluster", "rpm", Outcome::Passed))
                .collect(),
        );
        let mut after = before.clone();
        for (then, now) in before.trials.iter_mut().zip(&mut after.trials) {
            then.record.kept(["bus"]);
            now.record.kept(["bus", "data", "forecast"]);
        }
        after.trials[3]
            .record
            .promises
            .insert("bus".into(), super::super::record::Promise { kept: 0, broken: 2 });
        after.baseline = Some(super::super::baseline::Baseline::new(&before, &after, true));
        assert_eq!(
            compared(&after, Style::PLAIN),
            "promises changed since r1: bus: kept → broken in s::a3::cluster-rpm, \
             data: not asserted → kept in 40 trials, forecast: not asserted → kept in 40 trials\n"
        );
    }

    #[test]
    fn findings_precede_the_table_and_blocked_trials_are_told_once() {
        use crate::finding::tests::{defect, failed};
        let mut run = report(vec![
            failed(
                "formation",
                "forms",
                "install",
                vec![defect("masterauth", "hooks")],
            ),
            failed("scaling", "up", "install", vec![defect("masterauth", "hooks")]),
        ]);
        crate::verdict::conclude(&mut run, None, jiff::civil::date(2026, 7, 1));
        let text = render(&run, Path::new("reports/r1"), None, Style::PLAIN);
        let place = |words: &str| {
            text.find(words)
                .unwrap_or_else(|| panic!("no {words:?} in {text}"))
        };
        assert!(
            place("finding 1: masterauth is wrong") < place("formation::forms  FAIL"),
            "{text}"
        );
        assert!(
            place("breaks hooks; in formation::forms::cluster-rpm")
                < place("blocks scaling::up::cluster-rpm"),
            "{text}"
        );
        place("id: masterauth");
        place("NOT QUALIFIED: 1 of 2 trials failed, 1 blocked");
        assert_eq!(
            text.matches("FAIL formation::forms::cluster-rpm").count(),
            1,
            "{text}"
        );
        assert!(!text.contains("blocked scaling::up"), "{text}");
    }
}
