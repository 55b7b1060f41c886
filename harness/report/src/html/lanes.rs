//! A trial's timeline as a picture: lanes for steps, pods, Jobs, nodes and shards on one axis.
//!
//! A lane is a label and a small SVG. The SVG stretches with the page, so the text stays readable
//! on a phone. States differ in height and hatching as well as in colour.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::model::TrialReport;
use super::duration;
use timeline::{Entry, EntryKind, SubjectState};

/// The width of every lane's drawing, in its own units.
const WIDTH: u64 = 1000;

/// The height of every lane's drawing.
const HEIGHT: u64 = 14;

/// One bar of a lane.
struct Span {
    from_ms: u64,
    to_ms: u64,
    class: &'static str,
    text: String,
}

/// One lane.
struct Lane {
    label: String,
    spans: Vec<Span>,
}

/// Renders the picture.
pub(super) fn render(trial: &TrialReport) -> Markup {
    let end = end_of(trial).max(1);
    let groups = [
        ("Steps", steps(trial)),
        ("Pods", states(trial, EntryKind::Pod, end)),
        ("Jobs", states(trial, EntryKind::Job, end)),
        ("cluster_state", states(trial, EntryKind::ClusterState, end)),
        ("Availability", availability(trial)),
    ];
    html! {
        figure.timeline {
            figcaption { "Timeline" (legend()) }
            @for (title, lanes) in &groups {
                @if !lanes.is_empty() {
                    div.group { h4 { (title) } @for lane in lanes { (draw(lane, end)) } }
                }
            }
            (axis(end))
        }
    }
}

/// Returns the moment of the last drawn event.
fn end_of(trial: &TrialReport) -> u64 {
    let steps = trial.steps.iter().map(|step| step.at_ms + step.duration_ms);
    let entries = trial.record.timeline.iter().map(|entry| entry.at_ms);
    steps.chain(entries).max().unwrap_or(0)
}

fn steps(trial: &TrialReport) -> Vec<Lane> {
    let lane = |step: &super::super::model::StepReport| Lane {
        label: step.name.clone(),
        spans: vec![Span {
            from_ms: step.at_ms,
            to_ms: step.at_ms + step.duration_ms,
            class: if step.succeeded { "step" } else { "failed" },
            text: if step.succeeded { "done" } else { "failed" }.to_owned(),
        }],
    };
    trial.steps.iter().map(lane).collect()
}

/// Renders a lane for every subject of `kind` with states. Each state lasts until the next one.
fn states(trial: &TrialReport, kind: EntryKind, end: u64) -> Vec<Lane> {
    let mut by_subject: BTreeMap<&str, Vec<(&Entry, SubjectState)>> = BTreeMap::new();
    for entry in trial.record.timeline.iter().filter(|entry| entry.kind == kind) {
        if let Some(state) = entry.state {
            let seen = by_subject.entry(&entry.subject).or_default();
            // A node's timeline records only changes, so a repeated state is from another pod of
            // that name.
            if kind == EntryKind::ClusterState || seen.last().is_none_or(|(_, last)| *last != state) {
                seen.push((entry, state));
            }
        }
    }
    by_subject
        .into_iter()
        .map(|(subject, seen)| {
            let next = seen.iter().skip(1).map(|(entry, _)| entry.at_ms).chain([end]);
            // A node has no state after its pod is gone.
            let gone = gone(trial, subject);
            let ends = seen.iter().zip(next).map(|((entry, _), next)| {
                let gone = gone.iter().find(|at| **at > entry.at_ms);
                gone.map_or(next, |at| next.min(*at))
            });
            let spans = seen
                .iter()
                .zip(ends)
                .filter(|((_, state), _)| *state != SubjectState::Absent);
            Lane {
                label: subject.to_owned(),
                spans: spans
                    .map(|((entry, state), to_ms)| Span {
                        from_ms: entry.at_ms,
                        to_ms,
                        class: class_of(*state),
                        text: entry.text.clone(),
                    })
                    .collect(),
            }
        })
        .filter(|lane| !lane.spans.is_empty())
        .collect()
}

/// Returns the moments at which the pod of this name went away.
fn gone(trial: &TrialReport, pod: &str) -> Vec<u64> {
    let timeline = trial.record.timeline.iter();
    let ends = timeline.filter(|entry| {
        entry.kind == EntryKind::Pod && entry.subject == pod && entry.state == Some(SubjectState::Absent)
    });
    ends.map(|entry| entry.at_ms).collect()
}

fn availability(trial: &TrialReport) -> Vec<Lane> {
    let mut lanes: BTreeMap<String, Lane> = BTreeMap::new();
    for load in &trial.record.availability {
        for (pod, shard) in &load.shards {
            let label = format!("shard of {pod}");
            let lane = lanes.entry(pod.clone()).or_insert_with(|| Lane {
                label,
                spans: Vec::new(),
            });
            lane.spans.push(Span {
                from_ms: load.at_ms,
                to_ms: load.at_ms + load.duration_ms,
                class: "ready",
                text: format!("writes succeed during {}", load.what),
            });
            lane.spans.push(Span {
                from_ms: shard.gap_at_ms,
                to_ms: shard.gap_at_ms + shard.gap_ms,
                class: "failed",
                text: "longest gap without a successful write".to_owned(),
            });
        }
    }
    lanes.into_values().collect()
}

fn class_of(state: SubjectState) -> &'static str {
    match state {
        SubjectState::Absent => "absent",
        SubjectState::Waiting => "waiting",
        SubjectState::Running => "running",
        SubjectState::Ready => "ready",
        SubjectState::Ending => "ending",
        SubjectState::Done => "done",
        SubjectState::Failed => "failed",
    }
}

/// Returns the height of a bar: a better state has a taller bar.
fn height_of(class: &str) -> u64 {
    match class {
        "waiting" => 3,
        "ending" => 5,
        "running" => 8,
        _ => HEIGHT,
    }
}

fn draw(lane: &Lane, end: u64) -> Markup {
    let told: Vec<String> = lane
        .spans
        .iter()
        .map(|span| {
            format!(
                "{} from {} to {}",
                span.class,
                duration(span.from_ms),
                duration(span.to_ms)
            )
        })
        .collect();
    let at = |ms: u64| ms.min(end) * WIDTH / end;
    html! {
        div.lane {
            span.label title=(lane.label) { (lane.label) }
            svg role="img" aria-label={ (lane.label) ": " (told.join(", ")) }
                viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" {
                @for span in &lane.spans {
                    @let height = height_of(span.class);
                    @let width = at(span.to_ms).saturating_sub(at(span.from_ms)).max(2);
                    rect.(span.class) x=(at(span.from_ms).min(WIDTH - 2)) y=(HEIGHT - height) width=(width) height=(height) {
                        title { (duration(span.from_ms)) " – " (duration(span.to_ms)) ": " (span.text) }
                    }
                    @if span.class == "failed" {
                        rect.overlay x=(at(span.from_ms).min(WIDTH - 2)) y="0" width=(width) height=(HEIGHT) fill="url(#hatch)" {}
                    }
                }
            }
        }
    }
}

fn legend() -> Markup {
    html! {
        span.legend {
            @for (class, word) in [("waiting", "waiting"), ("running", "running"), ("ready", "ready, ok"),
                ("ending", "ending"), ("done", "done"), ("failed", "failed")] {
                span { svg aria-hidden="true" width="16" height="10" viewBox={ "0 0 16 " (HEIGHT) } preserveAspectRatio="none" {
                    rect.(class) y=(HEIGHT - height_of(class)) width="16" height=(height_of(class)) {}
                    @if class == "failed" { rect.overlay width="16" height=(HEIGHT) fill="url(#hatch)" {} }
                } (word) }
            }
        }
    }
}

/// Renders about five marks at round moments.
fn axis(end: u64) -> Markup {
    let steps = [
        100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000,
    ];
    let step = steps
        .into_iter()
        .find(|step| end / step <= 6)
        .unwrap_or(end / 6 + 1);
    let place = |at: u64| format!("left:{}.{}%", at * 100 / end, at * 1000 / end % 10);
    let step_of = usize::try_from(step).unwrap_or(usize::MAX);
    html! {
        div.lane.axis aria-hidden="true" {
            span.label {}
            span.ticks { @for at in (0..=end).step_by(step_of) {
                @let (last, next_is_last) = (at * 100 / end > 93, (at + step) * 100 / end > 93 && at + step <= end);
                span.last[last].crowded[next_is_last && !last] style=(place(at)) { (if at == 0 { "0".to_owned() } else { short(at) }) }
            } }
        }
    }
}

fn short(ms: u64) -> String {
    match (ms % 1000, ms / 1000) {
        (0, seconds) => format!("{seconds} s"),
        (rest, seconds) => format!("{seconds}.{} s", rest / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Outcome;
    use crate::model::samples::trial;

    fn entry(at_ms: u64, state: SubjectState) -> Entry {
        Entry {
            at_ms,
            kind: EntryKind::Pod,
            subject: "vk-0".into(),
            text: "x".into(),
            state: Some(state),
        }
    }

    #[test]
    fn what_a_node_says_ends_with_its_pod() {
        let mut trial = trial("s", "a", "cluster", "rpm", Outcome::Passed);
        let said = |at_ms, state| Entry {
            kind: EntryKind::ClusterState,
            ..entry(at_ms, state)
        };
        trial.record.timeline = vec![
            entry(10, SubjectState::Waiting),
            said(20, SubjectState::Ready),
            entry(50, SubjectState::Absent),
            entry(60, SubjectState::Waiting),
            said(80, SubjectState::Ready),
        ];
        let lanes = states(&trial, EntryKind::ClusterState, 100);
        let spans: Vec<_> = lanes[0]
            .spans
            .iter()
            .map(|span| (span.from_ms, span.to_ms))
            .collect();
        assert_eq!(spans, [(20, 50), (80, 100)]);
    }

    #[test]
    fn a_state_lasts_until_the_next_one_and_absence_is_not_drawn() {
        let mut trial = trial("s", "a", "cluster", "rpm", Outcome::Passed);
        trial.record.timeline = vec![
            entry(10, SubjectState::Waiting),
            entry(20, SubjectState::Waiting),
            entry(30, SubjectState::Ready),
            entry(70, SubjectState::Absent),
            entry(90, SubjectState::Waiting),
        ];
        let lanes = states(&trial, EntryKind::Pod, 100);
        let spans: Vec<_> = lanes[0]
            .spans
            .iter()
            .map(|span| (span.from_ms, span.to_ms, span.class))
            .collect();
        assert_eq!(
            spans,
            [(10, 30, "waiting"), (30, 70, "ready"), (90, 100, "waiting")]
        );
    }
}
