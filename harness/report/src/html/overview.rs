//! The first part for a release manager: verdict, findings, grid, promises and changes. The
//! deployment comes at the end.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::baseline::{Baseline, Pace, shifts};
use super::super::deployment::ChartSource;
use super::super::finding::Finding;
use super::super::known::AcceptanceState;
use super::super::markdown::capitalised;
use super::super::model::{RunReport, RunVerdict, TrialReport};
use super::super::record::Promise;
use super::super::summary::{distinct, took};
use super::{anchor, badge, duration, finding_anchor, verdict_class};

/// Number of trials to name for the same change of a promise. Others are only counted.
const TRIALS: usize = 4;

/// Renders everything above the trials.
pub(super) fn render(report: &RunReport) -> Markup {
    html! {
        (verdict(report))
        (findings(report))
        @if let Some(baseline) = &report.baseline { (changes(baseline)) }
        (grid(report))
        (promises(report))
    }
}

fn verdict(report: &RunReport) -> Markup {
    let sign = match report.verdict {
        RunVerdict::Qualified | RunVerdict::QualifiedWithKnownFindings => "✓",
        RunVerdict::NotQualified => "✗",
        RunVerdict::Inconclusive => "!",
    };
    let stand_ins = report.provenance.images.iter().any(|image| image.stand_in);
    html! {
        header class={ "verdict " (verdict_class(report.verdict)) } {
            p.eyebrow { "Valkey on Kubernetes · qualification report" }
            h1 { span.sign aria-hidden="true" { (sign) } (capitalised(report.verdict.words())) }
            p.because { (report.because) }
            @if stand_ins {
                p.caveat { strong { "Stand-in images. " } "This run qualifies the deployment, not the images." }
            }
            dl.facts {
                div { dt { "Deployed" } dd { (report.deployment.subject()) } }
                div { dt { "Cluster" } dd { (report.provenance.provider) ", Kubernetes " (report.provenance.kubernetes) } }
                div { dt { "Began" } dd { time datetime=(report.started) { (report.started.strftime("%Y-%m-%d %H:%M UTC")) } } }
                div { dt { "Took" } dd { (took(report.duration_ms)) } }
                div { dt { "Profile" } dd { (report.profile) } }
                div { dt { "Trials" } dd {
                    (report.trials.len())
                    @if report.catalogue.len() > report.trials.len() { " of the suite's " (report.catalogue.len()) }
                } }
            }
        }
    }
}

/// Renders the findings, the worst first, and the state of the known ones.
fn findings(report: &RunReport) -> Markup {
    let stale = report
        .known
        .iter()
        .filter(|entry| entry.state != AcceptanceState::Used);
    html! {
        @if !report.findings.is_empty() || !report.known.is_empty() {
            section aria-labelledby="findings-title" {
                h2 id="findings-title" { "Findings" }
                ol.findings { @for finding in &report.findings { (one_finding(finding)) } }
                ul.stale { @for entry in stale { li {
                    "The known finding " code { (entry.id) } " (until " (entry.until) ") "
                    @if entry.state == AcceptanceState::Expired { "has expired: the findings that it accepted count as new." }
                    @else { "matches nothing in this run and can be removed." }
                } } }
            }
        }
    }
}

fn one_finding(finding: &Finding) -> Markup {
    html! {
        li id=(finding_anchor(&finding.id)) class=(if finding.known.is_some() { "known" } else { "new" }) {
            h3 { (finding.title) @if finding.known.is_some() { " " span.tag { "known" } } }
            p { (finding.text) }
            @if let Some(known) = &finding.known {
                p.note { "Accepted until " (known.until) ": " (known.reason) @if let Some(link) = &known.link { " (" (link) ")" } }
            }
            dl {
                div { dt { "Breaks" } dd { (finding.promises.iter().map(|promise| promise.replace('_', " ")).collect::<Vec<_>>().join(", ")) } }
                div { dt { "In" } dd { (links(&finding.trials)) } }
                @if !finding.blocked.is_empty() { div { dt { "Blocks" } dd { (links(&finding.blocked)) } } }
                div { dt { "Id" } dd { code { (finding.id) } } }
            }
            @if !finding.evidence.is_empty() {
                details { summary { "First evidence" } pre tabindex="0" { (finding.evidence.join("\n")) } }
            }
        }
    }
}

/// Renders links to the first trials, with the others folded.
fn links(trials: &[String]) -> Markup {
    let list = |trials: &[String]| {
        html! {
            @for (index, name) in trials.iter().enumerate() { @if index > 0 { ", " } a href={ "#" (anchor(name)) } { (name) } }
        }
    };
    let (first, others) = trials.split_at(trials.len().min(TRIALS));
    html! {
        (list(first))
        @if !others.is_empty() { details { summary { "and " (others.len()) " more" } (list(others)) } }
    }
}

fn grid(report: &RunReport) -> Markup {
    let columns = distinct(report.trials.iter().map(TrialReport::combination));
    let modes = distinct(report.trials.iter().map(|trial| trial.mode.clone()));
    let cells: BTreeMap<(String, String), &TrialReport> = report
        .trials
        .iter()
        .map(|trial| ((trial.story(), trial.combination()), trial))
        .collect();
    let of_mode = |mode: &str| {
        columns
            .iter()
            .filter(|column| column.starts_with(&format!("{mode}-")))
            .count()
    };
    let ordered: Vec<&String> = modes
        .iter()
        .flat_map(|mode| {
            columns
                .iter()
                .filter(move |column| column.starts_with(&format!("{mode}-")))
        })
        .collect();
    html! {
        section aria-labelledby="grid-title" {
            h2 id="grid-title" { "Mode × variant × scenario" }
            div.scroll role="region" aria-labelledby="grid-title" tabindex="0" {
                table.grid {
                    thead {
                        tr {
                            th rowspan="2" scope="col" { "Scenario" }
                            @for mode in &modes { th scope="colgroup" colspan=(of_mode(mode)) { (mode) } }
                        }
                        tr {
                            @for column in &ordered {
                                th scope="col" { (column.split_once('-').map_or(column.as_str(), |(_, variant)| variant)) }
                            }
                        }
                    }
                    @for suite in distinct(report.trials.iter().map(|trial| trial.suite.clone())) {
                        tbody {
                            tr.suite { th scope="rowgroup" colspan=(columns.len() + 1) { (suite) } }
                            @for story in distinct(report.trials.iter().filter(|trial| trial.suite == suite).map(TrialReport::story)) {
                                tr {
                                    th scope="row" { (story.split_once("::").map_or(story.as_str(), |(_, name)| name).replace('_', " ")) }
                                    @for column in &ordered {
                                        @match cells.get(&(story.clone(), (*column).clone())) {
                                            Some(trial) => { (cell(trial, report)) }
                                            None => { td.none { span aria-label="does not apply" { "·" } } }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn cell(trial: &TrialReport, report: &RunReport) -> Markup {
    let past = report
        .baseline
        .as_ref()
        .and_then(|baseline| baseline.trials.get(&trial.name));
    let ran = trial.outcome.has_run();
    html! {
        td class=(trial.outcome.word().to_lowercase()) {
            a href={ "#" (anchor(&trial.name)) } {
                (badge(&trial.outcome))
                @if ran { " " span.took { (duration(trial.duration_ms)) } }
            }
            @if ran && let Some(past) = past {
                " " span.was { "was " @if past.outcome == trial.outcome.word() { (duration(past.duration_ms)) } @else { (past.outcome) } }
            }
        }
    }
}

fn promises(report: &RunReport) -> Markup {
    let mut sums: BTreeMap<&str, (Promise, Vec<&TrialReport>)> = BTreeMap::new();
    for trial in &report.trials {
        for (name, promise) in &trial.record.promises {
            let (sum, breakers) = sums.entry(name).or_default();
            sum.kept += promise.kept;
            sum.broken += promise.broken;
            if promise.broken > 0 {
                breakers.push(trial);
            }
        }
    }
    let mut rows: Vec<(&str, (Promise, Vec<&TrialReport>))> = sums.into_iter().collect();
    rows.sort_by_key(|(_, (promise, _))| promise.broken == 0);
    let broken = rows.iter().filter(|(_, (promise, _))| promise.broken > 0).count();
    html! {
        @if !rows.is_empty() {
            section aria-labelledby="promises-title" {
                h2 id="promises-title" { "Promises" }
                p.note { (rows.len() - broken) " kept in every check, " (broken) " broken." }
                ul.promises {
                    @for (name, (promise, breakers)) in &rows {
                        li class=(if promise.broken > 0 { "fail" } else { "pass" }) {
                            span.sign aria-hidden="true" { @if promise.broken > 0 { "✗" } @else { "✓" } }
                            strong { (name.replace('_', " ")) }
                            span.n {
                                @if promise.broken > 0 { (promise.broken) " violations" } @else { "kept " (promise.kept) " times" }
                            }
                            @if !breakers.is_empty() {
                                span.where { "in " @for (index, trial) in breakers.iter().take(4).enumerate() {
                                    @if index > 0 { ", " }
                                    a href={ "#" (anchor(&trial.name)) } { (trial.scenario) " " (trial.combination()) }
                                } @if breakers.len() > 4 { " and " (breakers.len() - 4) " more" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn changes(baseline: &Baseline) -> Markup {
    let changes = &baseline.changes;
    html! {
        section.changes aria-labelledby="changes-title" {
            h2 id="changes-title" { "Since " (baseline.run) }
            @if changes.is_empty() { p.note { "Nothing changed beyond noise." } }
            (names("New failures", "fail", &changes.new_failures))
            (names("Still failing", "fail", &changes.still_failing))
            (names("Fixed", "pass", &changes.fixed))
            (paces("Slower than noise", &changes.slower))
            (paces("Faster than noise", &changes.faster))
            (names("Only in this run", "plain", &changes.added))
            (names("Only in the earlier run", "plain", &changes.removed))
            @if !changes.promises.is_empty() {
                h3 { "Promises changed" }
                ul { @for shift in shifts(&changes.promises) { li {
                    strong { (shift.promise.replace('_', " ")) } ": " (shift.before) " → " (shift.after) " "
                    span.where { "in " @if shift.trials.len() > TRIALS { (shift.trials.len()) " trials" } @else {
                        @for (index, name) in shift.trials.iter().enumerate() { @if index > 0 { ", " } a href={ "#" (anchor(name)) } { (name) } }
                    } }
                } } }
            }
        }
    }
}

fn names(title: &str, class: &str, trials: &[String]) -> Markup {
    html! {
        @if !trials.is_empty() {
            details open[class == "fail"] {
                summary { (title) " " span.n { (trials.len()) } }
                ul class=(class) { @for name in trials { li { a href={ "#" (anchor(name)) } { (name) } } } }
            }
        }
    }
}

fn paces(title: &str, paces: &[Pace]) -> Markup {
    html! {
        @if !paces.is_empty() {
            details { summary { (title) " " span.n { (paces.len()) } }
                ul { @for pace in paces {
                    li { a href={ "#" (anchor(&pace.trial)) } { (pace.trial) } ": " (duration(pace.before_ms)) " → " (duration(pace.after_ms)) }
                } }
            }
        }
    }
}

/// Renders the deployment and its cluster, which a signature below the report confirms.
pub(super) fn provenance(report: &RunReport) -> Markup {
    let (deployment, provenance) = (&report.deployment, &report.provenance);
    html! {
        section.provenance aria-labelledby="provenance-title" {
            h2 id="provenance-title" { "Subject and environment" }
            dl {
                div { dt { "Run" } dd { code { (report.run) } } }
                div { dt { "Project commit" } dd { code { (deployment.commit.as_deref().unwrap_or("unknown")) } } }
                div { dt { "Manifests" } dd { code { (deployment.manifests_digest) } } }
                @if let Some(chart) = &deployment.chart { (chart_source(chart)) }
                div { dt { "Cluster" } dd { (provenance.to_string()) } }
                div { dt { "Seed" } dd { code { (report.seed) } } }
                @for image in &provenance.images {
                    div { dt { "Image " (image.reference) } dd {
                        code { (image.digest) } br;
                        @if image.stand_in { strong { "stand-in" } } @else { "published image" }
                        @if let Some(server) = &image.server_version { ", server " (server) }
                        @if let Some(built) = &image.built_from { ", made of " (built) }
                    } }
                }
                @for part in &report.merged {
                    div { dt { "Part" } dd { code { (part.run) } ", " (part.trials) " trials, seed " (part.seed) } }
                }
            }
            @for (combination, values) in &deployment.values {
                details { summary { "Values of " (combination) }
                    pre tabindex="0" { (serde_json::to_string_pretty(values).unwrap_or_default()) }
                }
            }
        }
    }
}

/// Renders a chart on disk: its `helm`, and its additions to the README, which are not judged.
fn chart_source(chart: &ChartSource) -> Markup {
    html! {
        @if !chart.helm.is_empty() { div { dt { "Deployed by" } dd { "helm " (chart.helm) } } }
        @for (what, names) in [("Objects", &chart.objects_beyond_readme), ("Values", &chart.values_beyond_readme)] {
            @if !names.is_empty() {
                div { dt { (what) " beyond the README, not judged" } dd { @for (index, name) in names.iter().enumerate() {
                    @if index > 0 { ", " }
                    code { (name) }
                } } }
            }
        }
    }
}
