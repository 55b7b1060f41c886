//! Waiting is watching: the one primitive every wait of the project goes through.
//!
//! A wait has a subject, an expectation and a deadline. Its predicate tells "not yet" (with what it saw) from "never"
//! (with why), so that nobody waits out a timeout for something that cannot heal, and an expired wait says what was
//! last seen and for how long. Kubernetes objects are watched ([`object`], [`objects`]); a Valkey server cannot be
//! watched, so its observations are polled ([`poll`]), by the same rules.
//!
//! Predicates over pods and jobs are in [`conditions`], states that do not heal in [`doom`], and what stops the clock in
//! [`patience`].

pub mod conditions;
pub mod doom;
pub mod patience;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::runtime::watcher::ExponentialBackoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

pub use patience::Patience;

/// What a predicate says about one observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<T> {
    /// The expectation holds; this is what was waited for.
    Ready(T),
    /// It does not hold yet; the text says what was seen.
    NotYet(String),
    /// It cannot hold any more; the text says why.
    Never(String),
}

/// What is waited for, in words, and for how long at most.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// What is being looked at, such as `job vk-cluster-init`.
    pub subject: String,
    /// What is expected of it, such as `to complete`.
    pub expected: String,
    /// How long to wait before giving up.
    pub budget: Duration,
    /// What may stop the clock of the budget.
    pub patience: Option<Patience>,
}

impl Expectation {
    /// Reads as "wait for SUBJECT EXPECTED within BUDGET".
    pub fn new(subject: impl Into<String>, expected: impl Into<String>, budget: Duration) -> Self {
        Self {
            subject: subject.into(),
            expected: expected.into(),
            budget,
            patience: None,
        }
    }

    /// The same, with a clock that stands still while the cluster is busy.
    #[must_use]
    pub fn patient(mut self, patience: Patience) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The moment at which a wait that began at `started` is given up, as far as is known now.
    fn deadline(&self, started: Instant) -> Instant {
        let excused = self.patience.as_ref().map(|patience| patience.excused(started));
        started + self.budget + excused.unwrap_or_default()
    }
}

/// Why a wait ended without what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error(
        "waited {} for {subject} {expected}; last seen{}: {last_seen}",
        seconds(*.waited),
        unchanged(*.unchanged_for)
    )]
    Expired {
        /// What was looked at.
        subject: String,
        /// What was expected of it.
        expected: String,
        /// The last observation, in words.
        last_seen: String,
        /// How long the wait lasted.
        waited: Duration,
        /// For how long the last observation had not changed.
        unchanged_for: Duration,
    },
    /// The expectation cannot be met any more.
    #[error("{subject} will never be seen {expected}: {reason} (after {})", seconds(*.waited))]
    Never {
        /// What was looked at.
        subject: String,
        /// What was expected of it.
        expected: String,
        /// Why it cannot be met.
        reason: String,
        /// How long the wait had lasted.
        waited: Duration,
    },
    /// The observation itself is impossible (not allowed, unknown kind).
    #[error("{subject} cannot be watched")]
    Watch {
        /// What was to be looked at.
        subject: String,
        /// What the API server said.
        #[source]
        source: Box<watcher::Error>,
    },
}

impl WaitError {
    /// Whether the subject has reached a state from which it does not come back.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Never { .. })
    }
}

/// Watches one object by name until `verdict` is ready, and returns what it made of it. `None` means the object does
/// not exist (yet, or any more).
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

/// Watches every object that `config` selects, and hands the whole set, by name, to `verdict` after each change.
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
            Err(source) if is_hopeless(&source) => Some(Err(WaitError::Watch {
                subject: subject.clone(),
                source: Box::new(source),
            })),
            Err(source) => Some(Ok(Verdict::NotYet(format!(
                "the watch was interrupted: {source}"
            )))),
        };
        std::future::ready(step)
    });
    // On the heap: every wait is part of its caller's future, up to the whole of a scenario.
    until(what, Box::pin(verdicts)).await
}

/// A watch that goes on whatever becomes of its connection: continued from where it was, and begun anew with a list when
/// the API server does not know that place any more. kube's watcher does the latter only where the server says so within
/// a watch, and not where it refuses to begin one.
pub(crate) fn watch<K>(
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
            // The refusal itself is handed on; what ends this watch comes after the delay that follows a failure.
            .take_while(move |event| {
                let goes_on = !gone;
                gone |= is_gone(event);
                std::future::ready(goes_on)
            })
    });
    watches.flatten()
}

/// Whether a watch may not begin where it shall.
fn is_gone<T>(event: &Result<T, watcher::Error>) -> bool {
    matches!(event, Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if status.code == 410)
}

/// How long one watch request lasts. A connection that died without a word is noticed soon after; an intact one is
/// continued from where it was.
const WATCH_SECONDS: u32 = 30;

/// The delays between attempts at a watch that fails: soon enough that an API server that is back after its restart is
/// noticed within a deadline, and spread, so that all trials do not come at once.
fn watch_backoff() -> ExponentialBackoff {
    let delays = backon::ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times();
    delays.into()
}

/// Observes again and again, `interval` apart, until the observation is ready. An observation that hangs is ended by
/// the deadline.
pub async fn poll<T, F, Fut>(what: Expectation, interval: Duration, observe: F) -> Result<T, WaitError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Verdict<T>>,
{
    let mut ticker = tokio::time::interval(interval);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let verdicts = futures::stream::unfold((ticker, observe), |(mut ticker, mut observe)| async move {
        ticker.tick().await;
        let seen = observe().await;
        Some((Ok(seen), (ticker, observe)))
    });
    until(what, Box::pin(verdicts)).await
}

/// The primitive itself: the first ready verdict of a stream, or why there was none in time.
pub async fn until<T>(
    what: Expectation,
    verdicts: impl Stream<Item = Result<Verdict<T>, WaitError>>,
) -> Result<T, WaitError> {
    let started = Instant::now();
    let mut deadline = what.deadline(started);
    let mut verdicts = pin!(verdicts);
    let mut last_seen = String::from("nothing");
    let mut last_change = started;
    loop {
        match tokio::time::timeout_at(deadline, verdicts.next()).await {
            Ok(Some(Ok(Verdict::Ready(found)))) => return Ok(found),
            Ok(Some(Ok(Verdict::NotYet(seen)))) => {
                if seen != last_seen {
                    last_change = Instant::now();
                    last_seen = seen;
                }
            }
            Ok(Some(Ok(Verdict::Never(reason)))) => {
                let Expectation {
                    subject, expected, ..
                } = what;
                return Err(WaitError::Never {
                    subject,
                    expected,
                    reason,
                    waited: started.elapsed(),
                });
            }
            Ok(Some(Err(error))) => return Err(error),
            Err(_) if what.deadline(started) > Instant::now() => deadline = what.deadline(started),
            Ok(None) | Err(_) => {
                let Expectation {
                    subject, expected, ..
                } = what;
                let (waited, unchanged_for) = (started.elapsed(), last_change.elapsed());
                return Err(WaitError::Expired {
                    subject,
                    expected,
                    last_seen,
                    waited,
                    unchanged_for,
                });
            }
        }
    }
}

/// The set of objects that a watch has told of so far. A re-list replaces the set as a whole.
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
    /// Takes one event in; true when the set is complete and worth judging.
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

/// Whether trying again cannot help: the API server refuses the request itself.
fn is_hopeless(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source)) = error else {
        return false;
    };
    matches!(source, kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 404 | 405))
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Says for how long nothing changed, where that is worth saying.
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
