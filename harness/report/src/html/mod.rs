//! One page for people: the verdict, then the grid, the promises, and each trial with pictures. The
//! page loads no font, script, style or image. It can be mailed, archived and printed.
//!
//! | module | what is on the page |
//! |---|---|
//! | [`overview`] | the verdict, the findings, the grid, the promises, the changes, the deployment |
//! | [`trial`] | one trial, folded: reason, pictures, evidence |
//! | [`lanes`] | its timeline: steps, pods, Jobs, cluster_state and availability on one axis |
//! | [`slots`] | the owners of slots, one strip for each node's view |
//!
//! Trials are written one by one, so that the page is never in memory as a whole.

mod lanes;
mod overview;
mod slots;
mod trial;

use std::io::{self, Write};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::model::{Outcome, RunReport, RunVerdict};

/// The file's name within a report's folder.
pub const HTML_FILE: &str = "report.html";

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Bytes beyond which trials come without their logs. The limit keeps the page below 2 MiB. The
/// evidence has all logs.
const LOGS_WITHIN: usize = 768 * 1024;

/// Bytes beyond which passed trials come without pictures. The JSON has the numbers.
const PICTURES_WITHIN: usize = 1792 * 1024;

/// Forbids the browser to fetch anything, even if a log line in the page asks for it.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// Writes the page.
pub fn write(report: &RunReport, out: &mut dyn Write) -> io::Result<()> {
    let mut written = 0;
    let mut emit = |markup: Markup| {
        let text = markup.into_string();
        written += text.len();
        out.write_all(text.as_bytes()).map(|()| written)
    };
    emit(head(report))?;
    emit(overview::render(report))?;
    emit(filters(report))?;
    emit(PreEscaped("<div id=\"trials\">".to_owned()))?;
    let mut size = 0;
    for trial in &report.trials {
        let room = trial::Room {
            logs: size < LOGS_WITHIN,
            pictures: size < PICTURES_WITHIN || trial.outcome != Outcome::Passed,
        };
        size = emit(trial::render(trial, report, room))?;
    }
    emit(PreEscaped("</div>".to_owned()))?;
    emit(overview::provenance(report))?;
    emit(html! {
        footer { p { "Run " code { (report.run) } ", written from report.json (schema " (report.schema) ")." } }
        (PreEscaped("</main>"))
        script { (PreEscaped(SCRIPT)) }
        (PreEscaped("</body></html>\n"))
    })?;
    Ok(())
}

/// Wraps `content` in the report's page layout.
pub(super) fn page(title: &str, content: &Markup) -> Markup {
    html! {
        (opening(title, "plain"))
        (content)
        (PreEscaped("</main></body></html>\n"))
    }
}

fn head(report: &RunReport) -> Markup {
    let title = format!("{}: {}", report.verdict.words(), report.run);
    opening(&title, verdict_class(report.verdict))
}

fn opening(title: &str, class: &str) -> Markup {
    html! {
        (DOCTYPE)
        (PreEscaped("<html lang=\"en\">"))
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta http-equiv="Content-Security-Policy" content=(POLICY);
            meta name="color-scheme" content="light dark";
            link rel="icon" href="data:,";
            title { (title) }
            style { (PreEscaped(STYLE)) }
        }
        (PreEscaped(format!("<body class=\"{class}\">")))
        a.skip href="#main" { "Skip to the verdict" }
        (patterns())
        (PreEscaped("<main id=\"main\">"))
    }
}

/// Renders the hatching, so that colour alone carries no information.
fn patterns() -> Markup {
    html! {
        svg.defs aria-hidden="true" width="0" height="0" {
            defs {
                pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect width="3" height="6" class="hatch" {}
                }
            }
        }
    }
}

fn filters(report: &RunReport) -> Markup {
    let count = |word: &str| {
        report
            .trials
            .iter()
            .filter(|trial| trial.outcome.word() == word)
            .count()
    };
    let words: Vec<(&str, usize)> = [
        "FAIL",
        "blocked",
        "broken",
        "invalid",
        "pass",
        "skip",
        "interrupted",
    ]
    .into_iter()
    .map(|word| (word, count(word)))
    .filter(|(_, count)| *count > 0)
    .collect();
    let distinct = super::summary::distinct(report.trials.iter().map(super::TrialReport::combination));
    html! {
        section.filters aria-labelledby="trials-title" {
            h2 id="trials-title" { "Trials" }
            div.controls {
                label.search { span { "Find" } input type="search" id="find" placeholder="scenario, cause, pod …" autocomplete="off"; }
                div.chips role="group" aria-label="Outcomes" {
                    @for (word, count) in &words {
                        button.chip type="button" aria-pressed="true" data-outcome=(word) {
                            span.dot.(word.to_lowercase()) {} (word) " " span.n { (count) }
                        }
                    }
                }
                div.chips role="group" aria-label="Combinations" {
                    @for combination in &distinct {
                        button.chip type="button" aria-pressed="true" data-combination=(combination) { (combination) }
                    }
                }
                div.chips {
                    button.chip type="button" id="unfold" { "Unfold all" }
                    button.chip type="button" id="fold" { "Fold all" }
                }
            }
            p.shown role="status" id="shown" { (report.trials.len()) " of " (report.trials.len()) " trials shown" }
        }
    }
}

/// Renders the badge of an outcome with a sign, a word and a colour.
fn badge(outcome: &Outcome) -> Markup {
    let word = outcome.word();
    html! { span.badge.(word.to_lowercase()) { span aria-hidden="true" { (outcome.sign()) } " " (word) } }
}

fn verdict_class(verdict: RunVerdict) -> &'static str {
    match verdict {
        RunVerdict::Qualified | RunVerdict::QualifiedWithKnownFindings => "qualified",
        RunVerdict::NotQualified => "not-qualified",
        RunVerdict::Inconclusive => "inconclusive",
    }
}

/// Returns the anchor of a trial on the page.
fn anchor(name: &str) -> String {
    format!("t-{}", name.replace("::", "-"))
}

/// Returns the anchor of a finding on the page.
fn finding_anchor(id: &str) -> String {
    format!("f-{}", id.replace(':', "-"))
}

/// Renders a moment or a duration in the shortest unit.
fn duration(milliseconds: u64) -> String {
    if milliseconds < 1000 {
        return format!("{milliseconds} ms");
    }
    super::summary::took(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::samples::{report, trial};

    fn page_of(report: &RunReport) -> String {
        let mut out = Vec::new();
        write(report, &mut out).expect("memory can be written to");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_a_log_says_is_text_and_never_markup() {
        let evil = "</script><script>alert(1)</script><img src=http://example.com/x>";
        let outcome = Outcome::Failed {
            cause: None,
            message: evil.into(),
        };
        let text = page_of(&report(vec![trial("s", "a", "cluster", "rpm", outcome)]));
        assert!(
            !text.contains("<img") && !text.contains("<script>alert"),
            "{text}"
        );
        assert!(text.contains("&lt;img src=http://example.com/x&gt;"));
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        let text = page_of(&report(vec![trial("s", "a", "cluster", "rpm", Outcome::Passed)]));
        for reference in [
            "src=",
            "@import",
            "url(http",
            "href=\"http",
            "<link rel=\"stylesheet",
        ] {
            assert!(!text.contains(reference), "{reference}");
        }
    }

    #[test]
    fn every_trial_has_a_place_that_the_grid_leads_to() {
        let text = page_of(&report(vec![trial("s", "a", "cluster", "rpm", Outcome::Passed)]));
        assert!(text.contains("href=\"#t-s-a-cluster-rpm\"") && text.contains("id=\"t-s-a-cluster-rpm\""));
    }

    #[test]
    fn a_finding_and_its_trials_link_to_each_other() {
        use crate::finding::tests::{defect, failed};
        let mut run = report(vec![
            failed(
                "formation",
                "forms",
                "install",
                vec![defect("services:vk", "services")],
            ),
            failed(
                "scaling",
                "up",
                "install",
                vec![defect("services:vk", "services")],
            ),
        ]);
        crate::verdict::conclude(&mut run, None, jiff::civil::date(2026, 7, 1));
        let text = page_of(&run);
        assert!(
            text.contains("id=\"f-services-vk\"") && text.contains("href=\"#f-services-vk\""),
            "{text}"
        );
        assert!(text.contains("href=\"#t-formation-forms-cluster-rpm\""), "{text}");
        assert!(
            text.find("id=\"findings-title\"") < text.find("id=\"grid-title\""),
            "{text}"
        );
    }
}
