//! One page for people: the verdict first, then the grid, the promises, and each trial with its pictures. The page is complete in
//! itself: no font, script, style or image comes from elsewhere, so that it can be mailed, archived and printed.
//!
//! | module | what is on the page |
//! |---|---|
//! | [`overview`] | the verdict, the grid, the promises, what changed, what was run |
//! | [`trial`] | one trial, folded: why, pictures, evidence |
//! | [`lanes`] | its timeline: steps, pods, Jobs, cluster_state and availability on one axis |
//! | [`slots`] | who owned which slots, one strip for each node's view |
//!
//! Trials are written one by one: the page of a thousand trials is never in memory as a whole.

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

/// Beyond this many bytes, trials come without their logs, so that the page stays below 2 MiB; the evidence has them.
const LOGS_WITHIN: usize = 768 * 1024;

/// Beyond this many, trials that passed come without their pictures, which the JSON has the numbers of.
const PICTURES_WITHIN: usize = 1792 * 1024;

/// Nothing may be fetched, whatever a log line in the page says.
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

/// A page of another kind in the same clothes.
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

/// Hatching, so that nothing is told by colour alone.
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
    let words: Vec<(&str, usize)> = ["FAIL", "broken", "invalid", "pass", "skip"]
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

/// The badge of an outcome: a sign, a word and a colour say the same.
fn badge(outcome: &Outcome) -> Markup {
    let word = outcome.word();
    html! { span.badge.(word.to_lowercase()) { span aria-hidden="true" { (outcome.sign()) } " " (word) } }
}

fn verdict_class(verdict: RunVerdict) -> &'static str {
    match verdict {
        RunVerdict::Qualified => "qualified",
        RunVerdict::NotQualified => "not-qualified",
        RunVerdict::Inconclusive => "inconclusive",
    }
}

/// The place of a trial on the page.
fn anchor(name: &str) -> String {
    format!("t-{}", name.replace("::", "-"))
}

/// A moment or a duration, as short as its size allows.
fn duration(milliseconds: u64) -> String {
    if milliseconds < 1000 {
        return format!("{milliseconds} ms");
    }
    super::summary::took(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::tests_support::{report, trial};

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
}
