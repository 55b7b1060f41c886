//! JUnit XML in Surefire's format, which GitHub's actions, GitLab and Jenkins all read.
//!
//! A failure of the deployment is a `failure`. An invalid or broken trial is an `error`, so that a
//! broken machine never reads as a broken chart.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use chrono::DateTime;
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::model::{Outcome, RunReport, TrialReport};
use super::summary::{explanation, reproduce};
use super::verdict;

/// The file's name within a report's folder.
pub const JUNIT_FILE: &str = "junit.xml";

/// Writes `report` to `out`, one suite at a time.
pub fn write(report: &RunReport, out: &mut dyn Write) -> io::Result<()> {
    let mut suites: BTreeMap<&str, Vec<&TrialReport>> = BTreeMap::new();
    for trial in &report.trials {
        suites.entry(&trial.suite).or_default().push(trial);
    }
    let whole = || {
        let mut whole = Report::new(format!("Valkey on Kubernetes: {}", report.run));
        whole.set_time(Duration::from_millis(report.duration_ms));
        whole
    };
    let mut head = whole();
    let count = |matching: fn(&Outcome) -> bool| {
        let trials = report.trials.iter();
        trials.filter(|trial| matching(&trial.outcome)).count()
    };
    head.tests = report.trials.len();
    let fails = |trial: &&TrialReport| trial.outcome.is_failure() && trial.record.accepted.is_none();
    head.failures = report.trials.iter().filter(fails).count();
    head.errors = count(Outcome::is_doubtful);
    let head = head.to_string().map_err(io::Error::other)?;
    let (opening, closing) = head.split_once(END).unwrap_or((&head, ""));
    out.write_all(in_surefires_words(opening).as_bytes())?;
    for (name, trials) in suites {
        let mut one = whole();
        one.add_test_suite(suite(name, &trials, report));
        let xml = one.to_string().map_err(io::Error::other)?;
        out.write_all(contents(&xml).as_bytes())?;
    }
    writeln!(out, "{END}{closing}")
}

/// The end of the outermost element.
const END: &str = "</testsuites>";

/// Returns the unchanged content of the outermost element.
fn contents(xml: &str) -> &str {
    let begin = xml
        .find("<testsuites")
        .and_then(|at| Some(at + xml[at..].find(">\n")? + 2));
    let end = xml.rfind(END);
    match (begin, end) {
        (Some(begin), Some(end)) if begin <= end => &xml[begin..end],
        _ => "",
    }
}

/// Removes the total of skipped tests: Surefire's schema has the count only per suite.
fn in_surefires_words(head: &str) -> String {
    let Some((before, rest)) = head.split_once(" skipped=\"") else {
        return head.to_owned();
    };
    let after = rest.split_once('"').map_or("", |(_, after)| after);
    format!("{before}{after}")
}

fn suite(name: &str, trials: &[&TrialReport], report: &RunReport) -> TestSuite {
    let mut suite = TestSuite::new(name);
    let took: u64 = trials.iter().map(|trial| trial.duration_ms).sum();
    suite.set_time(Duration::from_millis(took));
    if let Some(started) = DateTime::from_timestamp_millis(report.started.as_millisecond()) {
        suite.set_timestamp(started);
    }
    for (name, value) in properties(report) {
        suite.add_property(Property::new(name, value));
    }
    suite.add_test_cases(trials.iter().map(|trial| case(trial, report)));
    suite
}

/// Returns the facts about the run for readers of the XML alone.
fn properties(report: &RunReport) -> Vec<(String, String)> {
    let provenance = &report.provenance;
    let mut found = vec![
        ("run".to_owned(), report.run.clone()),
        ("verdict".to_owned(), report.verdict.words().to_owned()),
        ("seed".to_owned(), report.seed.to_string()),
        ("cluster".to_owned(), provenance.to_string()),
        ("deployed".to_owned(), report.deployment.subject()),
        ("manifests".to_owned(), report.deployment.manifests_digest.clone()),
    ];
    if let Some(commit) = &report.deployment.commit {
        found.push(("commit".to_owned(), commit.clone()));
    }
    for finding in &report.findings {
        let known = if finding.known.is_some() { " (known)" } else { "" };
        let trials = verdict::trials(finding.concerned().count());
        found.push((
            format!("finding {}", finding.id),
            format!("{}: {}{known}, {trials}", finding.title, finding.text),
        ));
    }
    for image in &provenance.images {
        let stand_in = if image.stand_in { " (stand-in)" } else { "" };
        found.push((
            format!("image {}", image.reference),
            format!("{}{stand_in}", image.digest),
        ));
    }
    found
}

fn case(trial: &TrialReport, report: &RunReport) -> TestCase {
    let name = format!("{}::{}", trial.scenario, trial.combination());
    let mut case = TestCase::new(name, status(trial, report));
    case.set_classname(trial.suite.as_str());
    case.set_time(Duration::from_millis(trial.duration_ms));
    if let Some(evidence) = &trial.evidence {
        // Jenkins' attachments and GitLab's screenshots both use this form.
        case.set_system_out(format!("[[ATTACHMENT|{}]]", evidence.display()));
    }
    case
}

fn status(trial: &TrialReport, report: &RunReport) -> TestCaseStatus {
    let headline = trial.headline().unwrap_or_default();
    let not_passed = |kind, type_: &str| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_message(headline).set_type(type_);
        status.set_description(format!(
            "{}again: {}\n",
            explanation(trial),
            reproduce(trial, report)
        ));
        status
    };
    match &trial.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Failed { .. } | Outcome::Blocked { .. } if trial.record.accepted.is_some() => {
            skipped(&format!(
                "known finding: {}",
                trial.record.accepted.as_deref().unwrap_or_default()
            ))
        }
        Outcome::Blocked { by, .. } => skipped(&format!("blocked by {by}: {headline}")),
        Outcome::Failed { .. } => not_passed(NonSuccessKind::Failure, "broken promise"),
        Outcome::Invalid { .. } => not_passed(NonSuccessKind::Error, "fault did not take place"),
        Outcome::Broken { .. } => not_passed(NonSuccessKind::Error, "environment"),
        Outcome::Interrupted { .. } => not_passed(NonSuccessKind::Error, "interrupted"),
        Outcome::Skipped { .. } => skipped(headline),
    }
}

fn skipped(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(why);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::samples::{report, trial};

    fn xml(trials: Vec<TrialReport>) -> String {
        let mut out = Vec::new();
        write(&report(trials), &mut out).expect("memory can be written to");
        String::from_utf8(out).expect("XML is text")
    }

    #[test]
    fn every_outcome_has_its_element() {
        let outcomes = [
            ("passes", Outcome::Passed),
            (
                "fails",
                Outcome::Failed {
                    cause: Some("masterauth is not set".into()),
                    message: "replica vk-3: <link> & \"more\"\n]]> \u{1}second".into(),
                },
            ),
            (
                "skips",
                Outcome::Skipped {
                    reason: "one node".into(),
                },
            ),
            (
                "invalid",
                Outcome::Invalid {
                    reason: "same address".into(),
                },
            ),
            (
                "broken",
                Outcome::Broken {
                    reason: "no cluster".into(),
                },
            ),
        ];
        let trials = outcomes
            .into_iter()
            .map(|(name, outcome)| trial("formation", name, "cluster", "rpm", outcome));
        insta::assert_snapshot!(xml(trials.collect()));
    }

    #[test]
    fn what_was_written_reads_back_with_the_same_counts() {
        let text = xml(vec![
            trial("a", "x", "cluster", "rpm", Outcome::Passed),
            trial(
                "a",
                "y",
                "cluster",
                "rpm",
                Outcome::Skipped { reason: "r".into() },
            ),
            trial("b", "z", "cluster", "rpm", Outcome::Broken { reason: "r".into() }),
        ]);
        let read = Report::deserialize_from_str(&text).expect("JUnit");
        let counts: Vec<_> = read
            .test_suites
            .iter()
            .map(|suite| (suite.name.as_str().to_owned(), suite.test_cases.len()))
            .collect();
        assert_eq!(counts, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert!(
            text.contains("skipped=\"1\"") && !text.contains("disabled"),
            "{text}"
        );
    }

    #[test]
    fn junit_skips_known_and_blocked_trials_with_the_reason() {
        use crate::finding::tests::{defect, failed};
        let mut known = failed("a", "x", "upgrade", vec![defect("tmp", "security")]);
        known.record.accepted = Some("tmp: no need (until 2027-01-01)".to_owned());
        let blocked = trial(
            "a",
            "y",
            "cluster",
            "rpm",
            Outcome::Blocked {
                by: "masterauth".into(),
                reason: "no password".into(),
            },
        );
        let text = xml(vec![known, blocked]);
        assert!(
            text.contains("failures=\"0\"") && !text.contains("<failure"),
            "{text}"
        );
        assert!(
            text.contains("known finding: tmp: no need (until 2027-01-01)"),
            "{text}"
        );
        assert!(text.contains("blocked by masterauth: no password"), "{text}");
    }
}
