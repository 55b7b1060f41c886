//! One trial: the reason of a failure, the pictures, and the evidence with folded logs.

use maud::{Markup, html};

use super::super::model::{Outcome, RunReport, TrialReport};
use super::super::record::{Availability, Exhibit, KeyFates};
use super::super::summary::reproduce;
use super::{anchor, badge, duration, lanes, slots};
use checks::Violation;
use timeline::Entry;

/// Number of events to list for a failure. The evidence has all of them.
const EVENTS: usize = 300;

/// Content that the page has room for.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// True for the ends of logs.
    pub(super) logs: bool,
    /// True for the timeline and the slot maps.
    pub(super) pictures: bool,
}

/// Renders the trial within `room`. Unfolds it when it needs attention.
pub(super) fn render(trial: &TrialReport, report: &RunReport, room: Room) -> Markup {
    let unfolded = matches!(
        trial.outcome,
        Outcome::Failed { .. } | Outcome::Invalid { .. } | Outcome::Broken { .. }
    );
    let past = report
        .baseline
        .as_ref()
        .and_then(|baseline| baseline.trials.get(&trial.name));
    html! {
        details.trial id=(anchor(&trial.name)) open[unfolded]
            data-outcome=(trial.outcome.word()) data-combination=(trial.combination()) {
            summary {
                (badge(&trial.outcome))
                span.name { (trial.story()) " " span.combination { (trial.combination()) } }
                span.took {
                    (duration(trial.duration_ms))
                    @if let Some(past) = past { span.was { " was " (duration(past.duration_ms)) } }
                }
                @if let Some(headline) = trial.headline() { span.headline { (headline) } }
            }
            div.body {
                (why(trial, report))
                @if room.pictures {
                    @if !trial.record.timeline.is_empty() { (lanes::render(trial)) }
                    @if !trial.record.slot_maps.is_empty() { (slots::render(&trial.record.slot_maps)) }
                } @else { p.note { "This page has no room for more pictures; their data is in report.json." } }
                @for availability in &trial.record.availability { (gaps(availability)) }
                @for fates in &trial.record.ledgers { (keys(fates)) }
                (asserted(trial))
                (evidence(trial, unfolded, room.logs))
            }
        }
    }
}

fn why(trial: &TrialReport, report: &RunReport) -> Markup {
    let (cause, message) = match &trial.outcome {
        Outcome::Passed => return html! {},
        Outcome::Failed { cause, message } => (cause.as_deref(), message),
        Outcome::Blocked { reason, .. }
        | Outcome::Skipped { reason }
        | Outcome::Invalid { reason }
        | Outcome::Broken { reason }
        | Outcome::Interrupted { reason } => (None, reason),
    };
    let first = message.lines().next().unwrap_or_default();
    html! {
        div.why {
            @if let Some(cause) = cause {
                p.cause { span.eyebrow { "Most likely cause" } (cause) }
            } @else if !trial.record.facts.is_empty() {
                div.cause {
                    span.eyebrow { "No known cause fits; the most relevant facts" }
                    ol { @for fact in &trial.record.facts { li { (fact) } } }
                }
            }
            @if let Outcome::Blocked { by, .. } = &trial.outcome {
                p { "Blocked by the finding " a href={ "#" (super::finding_anchor(by)) } { code { (by) } } }
            }
            @if let Some(accepted) = &trial.record.accepted { p.note { "Known: " (accepted) } }
            @if trial.record.violations.is_empty() { pre tabindex="0" { (message) } }
            @else {
                p { (first) }
                @if message.lines().nth(1).is_some() {
                    details { summary { "The error in full" } pre tabindex="0" { (message) } }
                }
                @for violation in &trial.record.violations { (broken(violation)) }
            }
            @for problem in &trial.cleanup { p.note { "Not cleaned up: " (problem) } }
            @if !matches!(trial.outcome, Outcome::Skipped { .. }) {
                p.again { span.eyebrow { "Run it again" } code { (reproduce(trial, report)) } }
            }
        }
    }
}

fn broken(violation: &Violation) -> Markup {
    html! {
        div.violation {
            p { strong { (violation.check.replace('_', " ")) } " · " (violation.subject) }
            dl {
                div { dt { "Expected" } dd { (violation.expected) } }
                div { dt { "Seen" } dd { (violation.seen) } }
                @if !violation.viewed_from.is_empty() {
                    div { dt { "By" } dd { (violation.viewed_from.join(", ")) } }
                }
            }
            @if !violation.evidence.is_empty() {
                details { summary { "Lines that prove it" } pre tabindex="0" { (violation.evidence.join("\n")) } }
            }
        }
    }
}

fn gaps(availability: &Availability) -> Markup {
    html! {
        figure {
            figcaption { "Writes during " (availability.what) }
            div.scroll role="region" aria-label={ "Writes during " (availability.what) } tabindex="0" { table {
                thead { tr { th scope="col" { "Shard of" } th scope="col" { "Slots" } th scope="col" { "Longest gap" }
                    th scope="col" { "Acknowledged" } th scope="col" { "Lost, unconfirmed" } th scope="col" { "Obstacles" } } }
                tbody { @for (pod, shard) in &availability.shards { tr {
                    th scope="row" { (pod) }
                    td { (shard.slots.summary()) }
                    td.n { (duration(shard.gap_ms)) }
                    td.n { (shard.acknowledged) }
                    td.n { (shard.unconfirmed_lost) }
                    td { (shard.obstacles.iter().map(|(what, count)| format!("{what} ×{count}")).collect::<Vec<_>>().join(", ")) }
                } } }
            } }
        }
    }
}

fn keys(fates: &KeyFates) -> Markup {
    html! {
        figure {
            figcaption { "State of the keys after " (fates.what) }
            ul.fates {
                @for (class, count) in &fates.counts {
                    li class=(if fates.slots.contains_key(class) { "fail" } else { "pass" }) {
                        strong { (count) } " " (class)
                        @if let Some(slots) = fates.slots.get(class) { span.where { "slots " (slots.summary()) } }
                    }
                }
            }
            @if fates.confirmed_gone + fates.unconfirmed_gone > 0 {
                p.note { "Of the missing keys, replicas had confirmed " (fates.confirmed_gone) " and not confirmed " (fates.unconfirmed_gone) "." }
            }
        }
    }
}

/// Renders the promises that the trial checked, and its values that differ from the combination.
fn asserted(trial: &TrialReport) -> Markup {
    let record = &trial.record;
    html! {
        @if !record.promises.is_empty() {
            p.chips-line { span.eyebrow { "Promises" }
                @for (name, promise) in &record.promises {
                    span class=(if promise.broken > 0 { "tag fail" } else { "tag pass" }) {
                        @if promise.broken > 0 { "✗ " } @else { "✓ " } (name.replace('_', " "))
                    } " "
                }
            }
        }
        @if !record.values.is_empty() {
            p.chips-line { span.eyebrow { "Values that differ" }
                @for (path, value) in &record.values { code { (path) "=" (value) } " " }
            }
        }
    }
}

fn evidence(trial: &TrialReport, failed: bool, with_logs: bool) -> Markup {
    let record = &trial.record;
    html! {
        @if let Some(folder) = &trial.evidence {
            p.note { "All evidence is in " code { (folder.display()) } "." }
        }
        @if !with_logs && !record.exhibits.is_empty() {
            p.note { "This page has no room for more logs; they are in the evidence." }
        }
        @if with_logs && failed && !record.timeline.is_empty() {
            details { summary { "Everything that happened " span.n { (record.timeline.len()) } }
                pre tabindex="0" { (told(&record.timeline)) }
            }
        }
        @if with_logs { @for exhibit in &record.exhibits { (log(exhibit)) } }
    }
}

fn told(entries: &[Entry]) -> String {
    let omitted = entries.len().saturating_sub(EVENTS);
    let lines = entries[omitted..].iter().map(|entry| format!("{entry}\n"));
    let mut text = if omitted > 0 {
        format!("… {omitted} more are in the evidence\n")
    } else {
        String::new()
    };
    text.extend(lines);
    text
}

fn log(exhibit: &Exhibit) -> Markup {
    html! {
        details { summary { (exhibit.name)
            @if exhibit.omitted_lines > 0 { " " span.n { "last lines, " (exhibit.omitted_lines) " before them left out" } } }
            pre tabindex="0" { (exhibit.text) }
        }
    }
}
