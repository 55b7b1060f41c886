//! Known findings: accepted defects with identifier, scope, reason and expiry. An expired entry
//! accepts nothing. An entry without a match is listed, so that it can be removed.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::finding::Finding;
use super::model::{Outcome, RunReport, TrialReport};

/// Months for which an entry of a first file accepts its finding.
const FIRST_MONTHS: i32 = 3;

/// A file of known findings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownFindings {
    /// The entries of the file.
    #[serde(default)]
    known: Vec<Entry>,
}

/// One accepted finding.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    #[serde(default = "everywhere")]
    scope: String,
    reason: String,
    until: String,
    link: Option<String>,
}

/// An entry that accepts a finding, as the report shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acceptance {
    /// The identifier of the finding.
    pub id: String,
    /// The trials in which the finding is accepted; `*` stands for anything.
    pub scope: String,
    /// The reason for the acceptance.
    pub reason: String,
    /// The last day of the acceptance (YYYY-MM-DD).
    pub until: String,
    /// A link to the follow-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The state of the entry in this run.
    pub state: AcceptanceState,
}

/// The state of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcceptanceState {
    /// The entry accepts a finding of a trial.
    Used,
    /// No trial of this run shows the finding.
    Unused,
    /// The entry's last day has passed, so it accepts nothing.
    Expired,
}

/// Reasons why a file of known findings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    /// The file cannot be read.
    #[error("failed to read the known findings of {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file has the wrong content.
    #[error("known findings {}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem.
        why: String,
    },
}

impl KnownFindings {
    /// Reads a file.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML. Also when it has unknown fields, lacks a reason
    /// or has an invalid date.
    pub fn read(path: &Path) -> Result<Self, KnownError> {
        let text = std::fs::read_to_string(path).map_err(|source| KnownError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|why| KnownError::Content {
            path: path.to_owned(),
            why,
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let found: Self = basic_toml::from_str(text).map_err(|error| error.to_string())?;
        for entry in &found.known {
            let id = &entry.id;
            if entry.reason.trim().is_empty() {
                return Err(format!("{id}: write the reason for which it is accepted"));
            }
            if entry.until.parse::<Date>().is_err() {
                return Err(format!(
                    "{id}: until = {:?} is not a date such as \"2027-01-31\"",
                    entry.until
                ));
            }
        }
        Ok(found)
    }

    /// Marks the findings and trials of `report` that this file accepts on `today`. Records the
    /// state of each entry.
    pub fn apply(&self, report: &mut RunReport, today: Date) {
        let mut entries: Vec<Acceptance> = self.known.iter().map(|entry| entry.on(today)).collect();
        let findings = report.findings.clone();
        let accepts = |entry: &Acceptance, id: &str, trial: &str| {
            entry.state != AcceptanceState::Expired && entry.id == id && matches(&entry.scope, trial)
        };
        for entry in &mut entries {
            let fits = |finding: &Finding| {
                finding
                    .concerned()
                    .any(|trial| accepts(entry, &finding.id, trial))
            };
            if findings.iter().any(fits) {
                entry.state = AcceptanceState::Used;
            }
        }
        let accepted = |id: &str, trial: &str| entries.iter().find(|entry| accepts(entry, id, trial));
        for finding in &mut report.findings {
            let everywhere = finding
                .concerned()
                .all(|trial| accepted(&finding.id, trial).is_some());
            let first = finding.concerned().next();
            finding.known = first
                .filter(|_| everywhere)
                .and_then(|trial| accepted(&finding.id, trial))
                .cloned();
        }
        for trial in &mut report.trials {
            trial.record.accepted = acceptance_of(trial, &accepted);
        }
        report.known = entries;
    }
}

impl Entry {
    fn on(&self, today: Date) -> Acceptance {
        let last: Option<Date> = self.until.parse().ok();
        let expired = last.is_none_or(|last| last < today);
        Acceptance {
            id: self.id.clone(),
            scope: self.scope.clone(),
            reason: self.reason.clone(),
            until: self.until.clone(),
            link: self.link.clone(),
            state: if expired {
                AcceptanceState::Expired
            } else {
                AcceptanceState::Unused
            },
        }
    }
}

/// Returns the reasons that accept every defect of the trial; `None` if a defect is not accepted.
fn acceptance_of<'a>(
    trial: &TrialReport,
    accepted: &impl Fn(&str, &str) -> Option<&'a Acceptance>,
) -> Option<String> {
    let did_not_pass = matches!(trial.outcome, Outcome::Failed { .. } | Outcome::Blocked { .. });
    let defects = &trial.record.defects;
    if !did_not_pass || defects.is_empty() {
        return None;
    }
    let reasons: Option<Vec<String>> = defects
        .iter()
        .map(|defect| {
            let entry = accepted(&defect.id, &trial.name)?;
            Some(format!("{}: {} (until {})", entry.id, entry.reason, entry.until))
        })
        .collect();
    reasons.map(|reasons| reasons.join("; "))
}

fn everywhere() -> String {
    "*".to_owned()
}

/// Returns true if `text` matches `pattern`, where `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices().any(|(at, _)| matches(rest, &text[at..])) || matches(rest, "")
        }),
    }
}

/// Renders a first file with an entry for each unknown finding of `report`. The reasons are left
/// for a person to write.
pub fn first_file(report: &RunReport, today: Date) -> String {
    let until = today.saturating_add(jiff::Span::new().months(FIRST_MONTHS));
    let mut text = String::from(
        "# Findings that are accepted for now. Write the reason of each entry, shorten its time, and delete what is not accepted.\n\
         # scope: the trials that it is accepted in; * stands for anything.\n",
    );
    for finding in report.findings.iter().filter(|finding| finding.known.is_none()) {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        text.push_str(&format!(
            "\n# {}\n[[known]]\nid = {}\nscope = \"*\"\nreason = \"\"\nuntil = \"{until}\"\n# link = \"https://\"\n",
            finding.text.lines().next().unwrap_or_default(),
            quoted(&finding.id),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::tests::{defect, failed};
    use crate::model::samples::report;
    use crate::{RunVerdict, verdict};

    const TODAY: Date = jiff::civil::date(2026, 7, 1);

    fn run() -> RunReport {
        let mut run = report(vec![
            failed(
                "scaling",
                "up",
                "upgrade",
                vec![defect("masterauth", "replication")],
            ),
            failed("security", "tmp", "look inside", vec![defect("tmp", "security")]),
        ]);
        verdict::conclude(&mut run, None, TODAY);
        run
    }

    fn judged(file: &str) -> RunReport {
        let known = KnownFindings::parse(file).expect("a file of known findings");
        let mut run = run();
        verdict::conclude(&mut run, Some(&known), TODAY);
        run
    }

    const BOTH: &str = "[[known]]\nid = \"masterauth\"\nreason = \"K8SPS-1\"\nuntil = \"2026-12-31\"\n\
                        [[known]]\nid = \"tmp\"\nscope = \"security::*\"\nreason = \"no need\"\nuntil = \"2026-07-01\"\n";

    #[test]
    fn a_run_of_known_findings_is_qualified_with_them() {
        assert_eq!(run().verdict, RunVerdict::NotQualified);
        let judged = judged(BOTH);
        assert_eq!(judged.verdict, RunVerdict::QualifiedWithKnownFindings);
        assert!(judged.findings.iter().all(|finding| finding.known.is_some()));
        assert_eq!(
            judged.trials[0].record.accepted.as_deref(),
            Some("masterauth: K8SPS-1 (until 2026-12-31)")
        );
    }

    #[test]
    fn an_expired_entry_accepts_nothing_and_is_told() {
        let judged = judged(&BOTH.replace("2026-07-01", "2026-06-30"));
        assert_eq!(judged.verdict, RunVerdict::NotQualified);
        assert_eq!(judged.known[1].state, AcceptanceState::Expired);
        assert_eq!(judged.trials[1].record.accepted, None);
    }

    #[test]
    fn an_entry_that_fits_nothing_is_unused() {
        let judged = judged(&BOTH.replace("security::*", "scaling::*"));
        assert_eq!(judged.verdict, RunVerdict::NotQualified);
        assert_eq!(judged.known[0].state, AcceptanceState::Used);
        assert_eq!(judged.known[1].state, AcceptanceState::Unused);
    }

    #[test]
    fn a_missing_reason_or_wrong_date_is_refused_by_name() {
        let why = |file: &str| KnownFindings::parse(file).expect_err("wrong");
        assert!(why(&BOTH.replace("K8SPS-1", " ")).starts_with("masterauth: write the reason"));
        assert!(why(&BOTH.replace("2026-07-01", "soon")).contains("tmp: until = \"soon\" is not a date"));
        assert!(why(&BOTH.replace("reason", "reson")).contains("reson"));
    }

    #[test]
    fn a_first_file_lists_what_is_not_known_and_waits_for_reasons() {
        let text = first_file(&run(), TODAY);
        assert!(
            text.contains("id = \"masterauth\"") && text.contains("until = \"2026-10-01\""),
            "{text}"
        );
        let refused = KnownFindings::parse(&text).expect_err("no reasons yet");
        assert!(refused.contains("write the reason"), "{refused}");
        KnownFindings::parse(&text.replace("reason = \"\"", "reason = \"x\""))
            .expect("a file of known findings");
    }

    #[test]
    fn a_scope_is_a_pattern() {
        assert!(matches("*", "a::b::cluster-rpm") && matches("a::*::cluster-*", "a::b::cluster-rpm"));
        assert!(!matches("a::*", "b::a::x") && !matches("*-rpm", "a::b::cluster-hardened"));
    }
}
