//! The steps of a trial: in the timeline, in the report, and on the terminal.

use std::sync::{Arc, Mutex, PoisonError};

use crate::report::{Event, EventSink, StepReport};
use crate::timeline::{EntryKind, Timeline};

/// The steps of one trial. Clones share them.
#[derive(Debug, Clone)]
pub struct Steps {
    trial: Arc<str>,
    timeline: Timeline,
    events: EventSink,
    ended: Arc<Mutex<Vec<StepReport>>>,
}

/// A running step. It ends when it is dropped, also by a cancellation, an early return or a panic.
#[derive(Debug)]
struct Running<'a> {
    steps: &'a Steps,
    name: String,
    at_ms: u64,
    succeeded: bool,
}

impl Steps {
    /// Makes an empty list of steps.
    pub(super) fn new(trial: String, timeline: Timeline, events: EventSink) -> Self {
        Self {
            trial: trial.into(),
            timeline,
            events,
            ended: Arc::default(),
        }
    }

    /// Runs `work` as the step `name`. The step fails if the work fails or does not finish.
    pub(super) async fn run<T, E>(
        &self,
        name: impl Into<String>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut step = self.begin(name.into());
        let result = work.await;
        step.succeeded = result.is_ok();
        result
    }

    /// Runs `work` as the step `name`. The step fails if the work fails or finds a broken promise.
    pub(super) async fn judge<V, E>(
        &self,
        name: impl Into<String>,
        work: impl Future<Output = Result<Vec<V>, E>>,
    ) -> Result<Vec<V>, E> {
        let mut step = self.begin(name.into());
        let result = work.await;
        step.succeeded = result.as_ref().is_ok_and(Vec::is_empty);
        result
    }

    fn begin(&self, name: String) -> Running<'_> {
        self.timeline.record(EntryKind::Step, name.as_str(), "begins");
        self.events.send(Event::StepStarted {
            trial: self.trial.to_string(),
            step: name.clone(),
        });
        Running {
            steps: self,
            name,
            at_ms: self.timeline.elapsed_ms(),
            succeeded: false,
        }
    }

    /// Returns the name of the step before the last one: the act that the last step waited for.
    pub(super) fn before_last(&self) -> String {
        self.nth_last(1)
    }

    /// Returns the name of the last finished step.
    pub(super) fn last(&self) -> String {
        self.nth_last(0)
    }

    /// Returns the duration of the last finished step, in milliseconds.
    pub(super) fn last_duration_ms(&self) -> u64 {
        self.ended(|steps| steps.last().map_or(0, |step| step.duration_ms))
    }

    fn nth_last(&self, back: usize) -> String {
        self.ended(|steps| {
            let before = steps.iter().rev().nth(back);
            before.map_or_else(|| "the start".to_owned(), |step| step.name.clone())
        })
    }

    /// Takes every finished step.
    pub(super) fn take(&self) -> Vec<StepReport> {
        self.ended(std::mem::take)
    }

    fn ended<T>(&self, act: impl FnOnce(&mut Vec<StepReport>) -> T) -> T {
        act(&mut self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let timeline = &self.steps.timeline;
        let duration_ms = timeline.elapsed_ms().saturating_sub(self.at_ms);
        let ended = if self.succeeded { "ended" } else { "failed" };
        timeline.record(
            EntryKind::Step,
            self.name.as_str(),
            format!("{ended} after {duration_ms} ms"),
        );
        let step = StepReport {
            name: std::mem::take(&mut self.name),
            at_ms: self.at_ms,
            duration_ms,
            succeeded: self.succeeded,
        };
        self.steps.ended(|steps| steps.push(step));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Steps {
        Steps::new("a trial".to_owned(), Timeline::default(), EventSink::silent())
    }

    fn ended(steps: &Steps) -> Vec<(String, bool)> {
        let all = steps.take().into_iter();
        all.map(|step| (step.name, step.succeeded)).collect()
    }

    #[tokio::test]
    async fn a_step_that_returns_early_is_reported() {
        let steps = steps();
        let early = async {
            Err::<(), _>("no pods")?;
            Ok(())
        };
        assert_eq!(steps.run("first", early).await, Err("no pods"));
        steps.run("second", async { Ok::<_, ()>(1) }).await.expect("ok");
        assert_eq!(
            (steps.before_last(), steps.last()),
            ("first".into(), "second".into())
        );
        assert_eq!(
            ended(&steps),
            [("first".to_owned(), false), ("second".to_owned(), true)]
        );
    }

    #[tokio::test]
    async fn a_step_that_is_given_up_is_reported() {
        let steps = steps();
        let forever = steps.run("wait", std::future::pending::<Result<(), ()>>());
        let given_up = tokio::time::timeout(std::time::Duration::ZERO, forever).await;
        assert!(given_up.is_err());
        assert_eq!(ended(&steps), [("wait".to_owned(), false)]);
    }

    #[tokio::test]
    async fn a_step_that_finds_a_broken_promise_has_failed() {
        let steps = steps();
        let found = |promises: Vec<&'static str>| async { Ok::<_, ()>(promises) };
        assert_eq!(steps.judge("look", found(vec![])).await, Ok(vec![]));
        assert_eq!(
            steps.judge("look again", found(vec!["balance"])).await,
            Ok(vec!["balance"])
        );
        assert_eq!(
            ended(&steps),
            [("look".to_owned(), true), ("look again".to_owned(), false)]
        );
    }
}
