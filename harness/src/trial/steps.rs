//! The steps of a trial: in the timeline, in the report, and on the terminal.

use crate::report::{Event, EventSink, StepReport};
use crate::timeline::{Kind, Timeline};

/// Collects the steps of one trial.
#[derive(Debug)]
pub struct Steps {
    trial: String,
    timeline: Timeline,
    events: EventSink,
    steps: Vec<StepReport>,
}

/// A step under way.
#[derive(Debug)]
#[must_use = "a step that is begun must be ended"]
pub struct Step {
    name: String,
    at_ms: u64,
}

impl Steps {
    /// No steps yet.
    pub(super) fn new(trial: String, timeline: Timeline, events: EventSink) -> Self {
        Self {
            trial,
            timeline,
            events,
            steps: Vec::new(),
        }
    }

    /// Begins a step.
    pub(super) fn begin(&self, name: &str) -> Step {
        self.timeline.record(Kind::Step, name, "begins");
        self.events.send(Event::StepStarted {
            trial: self.trial.clone(),
            step: name.to_owned(),
        });
        Step {
            name: name.to_owned(),
            at_ms: self.timeline.elapsed_ms(),
        }
    }

    /// Ends a step, and returns how many milliseconds it took.
    pub(super) fn end(&mut self, step: Step, succeeded: bool) -> u64 {
        let duration_ms = self.timeline.elapsed_ms().saturating_sub(step.at_ms);
        let ended = if succeeded { "ended" } else { "failed" };
        self.timeline.record(
            Kind::Step,
            step.name.as_str(),
            format!("{ended} after {duration_ms} ms"),
        );
        self.steps.push(StepReport {
            name: step.name,
            at_ms: step.at_ms,
            duration_ms,
            succeeded,
        });
        duration_ms
    }

    /// The act before the step that ended last, in a few words: what that one waited for the effects of.
    pub(super) fn before_last(&self) -> String {
        self.nth_last(1)
    }

    /// The step that ended last, in a few words.
    pub(super) fn last(&self) -> String {
        self.nth_last(0)
    }

    fn nth_last(&self, steps: usize) -> String {
        let before = self.steps.iter().rev().nth(steps);
        before.map_or_else(|| "the start".to_owned(), |step| step.name.clone())
    }

    /// Every step that has ended.
    pub(super) fn take(&mut self) -> Vec<StepReport> {
        std::mem::take(&mut self.steps)
    }
}
