//! The primitive behind every wait of the project: it watches instead of sleeping.
//!
//! A wait has a subject, an expectation and a deadline. Its predicate distinguishes "not yet" from
//! "never", and gives the observation or the reason. So nobody waits for something that cannot
//! heal. An expired wait says what was last seen and for how long.
//!
//! - [`object`] and [`objects`] watch Kubernetes objects
//! - [`poll`] polls Valkey servers, which cannot be watched, by the same rules
//! - [`conditions`] has predicates over pods and jobs, [`terminal_state`] states that do not heal
//! - [`deadline_pauses`] stops the clock

pub mod conditions;
pub mod deadline_pauses;
pub mod terminal_state;

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::runtime::watcher::ExponentialBackoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

pub use deadline_pauses::DeadlinePauses;

/// The verdict of a predicate about one observation. `S` is the type of the observation: text, or a
/// type that [`poll_seen`] returns to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<T, S = String> {
    /// The expectation holds, with this result.
    Ready(T),
    /// The expectation does not hold yet; this was seen.
    NotYet(S),
    /// The expectation cannot hold any more; this was seen.
    Never(S),
}

/// An expectation that was not met, with the last observation.
#[derive(Debug)]
pub struct Unmet<S> {
    /// The last observation, if there was any.
    pub seen: Option<S>,
    /// The error that ended the wait.
    pub error: WaitError,
}

impl<S> From<Unmet<S>> for WaitError {
    fn from(unmet: Unmet<S>) -> Self {
        unmet.error
    }
}

/// The expectation of a wait, in words, and its deadline.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The subject, such as `job vk-cluster-init`.
    pub subject: String,
    /// The expectation, such as `to complete`.
    pub expected: String,
    /// Time to wait before giving up.
    pub budget: Duration,
    /// Pauses of the budget's clock, if any.
    pub pauses: Option<DeadlinePauses>,
}

impl Expectation {
    /// Creates an expectation that reads as "wait for SUBJECT EXPECTED within BUDGET".
    pub fn new(subject: impl Into<String>, expected: impl Into<String>, budget: Duration) -> Self {
        Self {
            subject: subject.into(),
            expected: expected.into(),
            budget,
            pauses: None,
        }
    }

    /// Stops the clock while the cluster is busy.
    #[must_use]
    pub fn pausing(mut self, pauses: DeadlinePauses) -> Self {
        self.pauses = Some(pauses);
        self
    }

    /// Returns the deadline of a wait that began at `started`, as far as it is known now.
    fn deadline(&self, started: Instant) -> Instant {
        let excused = self.pauses.as_ref().map(|pauses| pauses.excused(started));
        started + self.budget + excused.unwrap_or_default()
    }
}

/// The reason for a wait to end unmet.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error(
        "waited {} for {subject} {expected}; last seen{}: {last_seen}",
        seconds(*.waited),
        unchanged(*.unchanged_for)
    )]
    Expired {
        /// The subject.
        subject: String,
        /// The expectation.
        expected: String,
        /// The last observation, in words.
        last_seen: String,
        /// Time that the wait lasted.
        waited: Duration,
        /// Time since the last change of the observation.
        unchanged_for: Duration,
    },
    /// The expectation cannot be met any more.
    #[error("waited {} for {subject} {expected}, which cannot happen: {reason}", seconds(*.waited))]
    Never {
        /// The subject.
        subject: String,
        /// The expectation.
        expected: String,
        /// The reason why it cannot be met.
        reason: String,
        /// Time that the wait had lasted.
        waited: Duration,
    },
    /// The observation itself is impossible (not allowed, unknown kind).
    #[error("{subject} cannot be watched")]
    Watch {
        /// The subject.
        subject: String,
        /// The API server's answer.
        #[source]
        source: Box<watcher::Error>,
    },
}

impl WaitError {
    /// Returns true if the subject has reached a terminal state.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Never { .. })
    }
}

/// Watches one object by name until `verdict` is ready, and returns the result. `None` means that
/// the object does not exist.
pub async fn object<K, T>(
    api: &Api<K>,
    name: &str,
    what: Expectation,
    mut verdict: impl FnMut(Option<&K>) -> Verdict<T>,
) -> Result<T, WaitError>
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    objects(api, config, what, |all: &BTreeMap<String, K>| {
        verdict(all.get(name))
    })
    .await
}

/// Watches every object that `config` selects. Passes the whole set, by name, to `verdict` after
/// each change.
pub async fn objects<K, T>(
    api: &Api<K>,
    config: watcher::Config,
    what: Expectation,
    mut verdict: impl FnMut(&BTreeMap<String, K>) -> Verdict<T>,
) -> Result<T, WaitError>
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let subject = what.subject.clone();
    let mut known = Known::default();
    let verdicts = watch(api.clone(), config).filter_map(|event| {
        let step = match event {
            Ok(event) => known.apply(event).then(|| Ok(verdict(&known.objects))),
            Err(source) if is_permanent(&source) => Some(Err(WaitError::Watch {
                subject: subject.clone(),
                source: Box::new(source),
            })),
            Err(source) => Some(Ok(Verdict::NotYet(format!(
                "the watch was interrupted: {source}"
            )))),
        };
        std::future::ready(step)
    });
    // Boxed, as every wait is part of its caller's future, up to a whole scenario.
    until(what, Box::pin(verdicts)).await
}

/// Watches objects across lost connections. Continues at the last position, or re-lists if the API
/// server no longer knows that position. The watcher of kube re-lists only for an error within a
/// watch, not for a refused start.
pub fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let config = config.timeout(WATCH_SECONDS);
    let watches = futures::stream::repeat_with(move || {
        let mut gone = false;
        watcher::watcher(api.clone(), config.clone())
            .backoff(watch_backoff())
            // Passes the refusal on, and ends this watch on the next event, after the backoff
            // delay.
            .take_while(move |event| {
                let goes_on = !gone;
                gone |= is_gone(event);
                std::future::ready(goes_on)
            })
    });
    watches.flatten()
}

/// Returns true if the API server no longer knows the watch's start position.
fn is_gone<T>(event: &Result<T, watcher::Error>) -> bool {
    matches!(event, Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if status.code == 410)
}

/// Duration of one watch request. It bounds the time to notice a silently dead connection. An
/// intact connection continues at its position.
const WATCH_SECONDS: u32 = 30;

/// Returns the delays between attempts at a failing watch. Short delays notice a restarted API
/// server within a deadline. Jitter keeps trials from retrying all at once.
fn watch_backoff() -> ExponentialBackoff {
    let delays = backon::ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times();
    delays.into()
}

/// Repeats the observation every `interval` until it is ready. The deadline ends an observation
/// that hangs.
pub async fn poll<T, F, Fut>(what: Expectation, interval: Duration, observe: F) -> Result<T, WaitError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Verdict<T>>,
{
    Ok(poll_seen(what, interval, observe).await?)
}

/// Polls like [`poll`], and returns the last observation if the expectation was not met.
pub async fn poll_seen<T, S, F, Fut>(what: Expectation, interval: Duration, observe: F) -> Result<T, Unmet<S>>
where
    S: Display + PartialEq,
    F: FnMut() -> Fut,
    Fut: Future<Output = Verdict<T, S>>,
{
    let mut ticker = tokio::time::interval(interval);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let verdicts = futures::stream::unfold((ticker, observe), |(mut ticker, mut observe)| async move {
        ticker.tick().await;
        let seen = observe().await;
        Some((Ok(seen), (ticker, observe)))
    });
    until_seen(what, Box::pin(verdicts)).await
}

/// Returns the first ready verdict of a stream, or the reason for its absence.
pub async fn until<T>(
    what: Expectation,
    verdicts: impl Stream<Item = Result<Verdict<T>, WaitError>>,
) -> Result<T, WaitError> {
    Ok(until_seen(what, verdicts).await?)
}

/// Returns the first ready verdict of a stream, or the last observation and the error. All other
/// waits use this primitive.
pub async fn until_seen<T, S: Display + PartialEq>(
    what: Expectation,
    verdicts: impl Stream<Item = Result<Verdict<T, S>, WaitError>>,
) -> Result<T, Unmet<S>> {
    let started = Instant::now();
    let mut deadline = what.deadline(started);
    let mut verdicts = pin!(verdicts);
    let mut last: Option<S> = None;
    let mut last_change = started;
    loop {
        match tokio::time::timeout_at(deadline, verdicts.next()).await {
            Ok(Some(Ok(Verdict::Ready(found)))) => return Ok(found),
            Ok(Some(Ok(Verdict::NotYet(seen)))) => {
                if last.as_ref() != Some(&seen) {
                    last_change = Instant::now();
                    last = Some(seen);
                }
            }
            Ok(Some(Ok(Verdict::Never(seen)))) => {
                let error = WaitError::Never {
                    subject: what.subject,
                    expected: what.expected,
                    reason: seen.to_string(),
                    waited: started.elapsed(),
                };
                return Err(Unmet {
                    seen: Some(seen),
                    error,
                });
            }
            Ok(Some(Err(error))) => return Err(Unmet { seen: last, error }),
            Err(_) if what.deadline(started) > Instant::now() => deadline = what.deadline(started),
            Ok(None) | Err(_) => {
                let error = WaitError::Expired {
                    subject: what.subject,
                    expected: what.expected,
                    last_seen: last.as_ref().map_or_else(|| "nothing".to_owned(), S::to_string),
                    waited: started.elapsed(),
                    unchanged_for: last_change.elapsed(),
                };
                return Err(Unmet { seen: last, error });
            }
        }
    }
}

/// The set of objects that a watch has shown so far. A re-list replaces the set as a whole.
struct Known<K> {
    objects: BTreeMap<String, K>,
    relisting: Option<BTreeMap<String, K>>,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            relisting: None,
        }
    }
}

impl<K: Resource> Known<K> {
    /// Applies one event, and returns true if the set is complete enough to be judged.
    fn apply(&mut self, event: watcher::Event<K>) -> bool {
        match event {
            watcher::Event::Init => self.relisting = Some(BTreeMap::new()),
            watcher::Event::InitApply(object) => {
                self.relisting
                    .get_or_insert_default()
                    .insert(object.name_any(), object);
            }
            watcher::Event::InitDone => self.objects = self.relisting.take().unwrap_or_default(),
            watcher::Event::Apply(object) => {
                self.objects.insert(object.name_any(), object);
            }
            watcher::Event::Delete(object) => {
                self.objects.remove(&object.name_any());
            }
        }
        self.relisting.is_none()
    }
}

/// Returns true if a retry cannot help, as the API server refuses the request itself.
fn is_permanent(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source)) = error else {
        return false;
    };
    matches!(source, kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 404 | 405))
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Describes the time without a change, unless it is too short to mention.
fn unchanged(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        String::new()
    } else {
        format!(" (for {})", seconds(duration))
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn what(budget: Duration) -> Expectation {
        Expectation::new("pod vk-0", "to be ready", budget)
    }

    fn named(name: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object
    }

    #[tokio::test]
    async fn returns_what_the_first_ready_verdict_carries() {
        let verdicts = stream::iter([Ok(Verdict::NotYet("pending".into())), Ok(Verdict::Ready(7))]);
        assert_eq!(until(what(Duration::from_secs(1)), verdicts).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn an_expired_wait_says_what_was_last_seen_and_for_how_long() {
        let seen = ["pending", "running 0/1", "running 0/1"];
        let verdicts =
            stream::iter(seen.map(|seen| Ok(Verdict::<()>::NotYet(seen.into())))).chain(stream::pending());
        let error = until(what(Duration::from_millis(50)), verdicts)
            .await
            .unwrap_err();
        let said = error.to_string();
        let waited = said
            .strip_prefix("waited ")
            .and_then(|rest| rest.strip_suffix(" s for pod vk-0 to be ready; last seen: running 0/1"));
        // A busy machine may let it wait longer, never shorter.
        let waited: Option<f64> = waited.and_then(|seconds| seconds.parse().ok());
        assert!(waited.is_some_and(|seconds| seconds >= 0.1), "{said}");
        assert!(!error.is_terminal());
    }

    #[tokio::test]
    async fn never_ends_the_wait_at_once() {
        let verdicts =
            stream::iter([Ok(Verdict::<()>::Never("ImagePullBackOff".into()))]).chain(stream::pending());
        let error = until(what(Duration::from_secs(600)), verdicts).await.unwrap_err();
        assert!(error.is_terminal());
        assert!(error.to_string().contains("ImagePullBackOff"), "{error}");
    }

    #[tokio::test]
    async fn polling_keeps_its_interval_and_ends_a_hanging_observation() {
        let mut observations = 0;
        let started = Instant::now();
        let found = poll(what(Duration::from_secs(10)), Duration::from_millis(20), || {
            observations += 1;
            let seen = observations;
            async move {
                if seen == 4 {
                    Verdict::Ready(seen)
                } else {
                    Verdict::NotYet(format!("{seen}"))
                }
            }
        });
        assert_eq!(found.await.unwrap(), 4);
        assert!(started.elapsed() >= Duration::from_millis(60));

        let hanging = poll(what(Duration::from_millis(30)), Duration::from_millis(5), || {
            futures::future::pending::<Verdict<()>>()
        });
        assert!(
            hanging
                .await
                .unwrap_err()
                .to_string()
                .ends_with("last seen: nothing")
        );
    }

    #[test]
    fn how_long_nothing_changed_is_said_when_it_was_long() {
        assert_eq!(unchanged(Duration::from_millis(900)), "");
        assert_eq!(unchanged(Duration::from_secs(12)), " (for 12.0 s)");
    }

    #[test]
    fn a_relist_replaces_the_set_and_is_judged_only_when_complete() {
        let mut known = Known::default();
        assert!(!known.apply(watcher::Event::Init));
        assert!(!known.apply(watcher::Event::InitApply(named("a"))));
        assert!(known.apply(watcher::Event::InitDone));
        assert!(known.apply(watcher::Event::Apply(named("b"))));
        assert_eq!(known.objects.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(!known.apply(watcher::Event::Init));
        assert!(!known.apply(watcher::Event::InitApply(named("b"))));
        assert!(known.apply(watcher::Event::InitDone));
        assert!(known.apply(watcher::Event::Delete(named("b"))));
        assert!(known.objects.is_empty());
    }
}
