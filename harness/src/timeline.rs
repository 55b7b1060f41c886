//! Everything that happened during a trial, on one clock: its steps, Kubernetes events, transitions of pods and Jobs, hook
//! output and changes of cluster_state.
//!
//! It is filled from watches in the background, not from polling, so that a short-lived state is in it too. It is a
//! record for people and for the triage; nothing decides anything by reading it while a trial runs.

mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use state::State;

use crate::wait::{self, Patience, Verdict, conditions};

/// What kind of thing an [`Entry`] tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A step of the trial began or ended.
    Step,
    /// A Kubernetes event.
    Event,
    /// A pod changed.
    Pod,
    /// A Job changed.
    Job,
    /// A line that a hook printed.
    Hook,
    /// A node's `cluster_state` changed.
    ClusterState,
    /// Anything else worth a line.
    Note,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Milliseconds since the trial began.
    pub at_ms: u64,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What it is about: a pod, a job, a step.
    pub subject: String,
    /// What happened, in one line.
    pub text: String,
    /// What the subject is like from now on, if that is what the entry tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Step => "step",
            Kind::Event => "event",
            Kind::Pod => "pod",
            Kind::Job => "job",
            Kind::Hook => "hook",
            Kind::ClusterState => "cluster",
            Kind::Note => "note",
        };
        let seconds = self.at_ms / 1000;
        write!(
            f,
            "{seconds:>4}.{:03}  {kind:<7}  {}: {}",
            self.at_ms % 1000,
            self.subject,
            self.text
        )
    }
}

/// The record. Clones share it.
#[derive(Debug, Clone)]
pub struct Timeline {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    origin: Instant,
    began: Timestamp,
    record: Mutex<Record>,
    patience: Patience,
}

#[derive(Debug, Default)]
struct Record {
    entries: Vec<Entry>,
    cluster_states: BTreeMap<String, String>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                origin: Instant::now(),
                began: Timestamp::now(),
                record: Mutex::default(),
                patience: Patience::default(),
            }),
        }
    }
}

impl Timeline {
    /// Writes one entry down, at the present moment.
    pub fn record(&self, kind: Kind, subject: impl Into<String>, text: impl Into<String>) {
        self.push(kind, subject.into(), text.into(), None);
    }

    /// Writes down what changed, and what the subject is like from now on.
    pub fn record_state(
        &self,
        kind: Kind,
        subject: impl Into<String>,
        text: impl Into<String>,
        state: State,
    ) {
        self.push(kind, subject.into(), text.into(), Some(state));
    }

    fn push(&self, kind: Kind, subject: String, text: String, state: Option<State>) {
        let at_ms = self.elapsed_ms();
        let mut record = self.lock();
        if kind == Kind::Pod && state == Some(State::Absent) {
            // A pod that comes again under this name has yet to say anything.
            record.cluster_states.remove(&subject);
        }
        record.entries.push(Entry {
            at_ms,
            kind,
            subject,
            text,
            state,
        });
    }

    /// Writes down what `node` says its `cluster_state` is, if that is not what it said before.
    pub fn cluster_state(&self, node: &str, state: &str) {
        let before = self
            .lock()
            .cluster_states
            .insert(node.to_owned(), state.to_owned());
        if before.as_deref() != Some(state) {
            let before = before.unwrap_or_else(|| "unknown".to_owned());
            let now = if state == "ok" {
                State::Ready
            } else {
                State::Failed
            };
            let text = format!("cluster_state {before} → {state}");
            self.record_state(Kind::ClusterState, node, text, now);
        }
    }

    /// Milliseconds since the timeline began.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.inner.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// At which millisecond of the timeline `moment` was; 0 for one before its beginning.
    pub fn at_ms(&self, moment: Timestamp) -> u64 {
        u64::try_from(moment.duration_since(self.inner.began).as_millis()).unwrap_or(0)
    }

    /// What stops the clock of waits in the namespace that is watched.
    pub fn patience(&self) -> Patience {
        self.inner.patience.clone()
    }

    /// A copy of every entry so far, in order.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    /// Starts to record the events and the transitions of pods and Jobs of `namespace`, and what its waits wait for, until
    /// the returned guard is dropped.
    pub fn watch(&self, client: &Client, namespace: &str) -> NamespaceWatch {
        let mut tasks = JoinSet::new();
        tasks.spawn(record_changes::<Pod>(
            self.clone(),
            Api::namespaced(client.clone(), namespace),
            POD,
        ));
        tasks.spawn(record_changes::<Job>(
            self.clone(),
            Api::namespaced(client.clone(), namespace),
            JOB,
        ));
        tasks.spawn(record_events(
            self.clone(),
            Api::namespaced(client.clone(), namespace),
        ));
        let timeline = self.clone();
        let patience = self
            .patience()
            .follow(client.clone(), namespace.to_owned(), move |busy| {
                timeline.record(Kind::Note, "cluster", busy);
            });
        tasks.spawn(patience);
        NamespaceWatch { _tasks: tasks }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.inner
            .record
            .lock()
            .expect("no code panics while it holds the timeline")
    }
}

/// Keeps the background watches of a namespace going; they end when it is dropped.
#[derive(Debug)]
pub struct NamespaceWatch {
    _tasks: JoinSet<()>,
}

/// What changed between two states of one pod, each change in a few words.
pub fn transitions(before: Option<&Pod>, after: Option<&Pod>) -> Vec<String> {
    let mut changes = Vec::new();
    let (seen, now) = (conditions::describe(before), conditions::describe(after));
    if seen != now {
        changes.push(format!("{seen} → {now}"));
    }
    let address = |pod: Option<&Pod>| pod.and_then(|pod| pod.status.as_ref()?.pod_ip.clone());
    match (address(before), address(after)) {
        (None, Some(ip)) => changes.push(format!("has address {ip}")),
        (Some(old), Some(new)) if old != new => changes.push(format!("address {old} → {new}")),
        _ => {}
    }
    changes
}

/// How the changes of one kind of object are told.
struct Telling<K> {
    kind: Kind,
    transitions: fn(Option<&K>, Option<&K>) -> Vec<String>,
    state: fn(Option<&K>) -> State,
}

const POD: Telling<Pod> = Telling {
    kind: Kind::Pod,
    transitions,
    state: state::of_pod,
};

const JOB: Telling<Job> = Telling {
    kind: Kind::Job,
    transitions: job_transitions,
    state: state::of_job,
};

/// What changed between two states of one Job, in a few words.
fn job_transitions(before: Option<&Job>, after: Option<&Job>) -> Vec<String> {
    let phase = |job: Option<&Job>| match conditions::job_verdict(job) {
        Verdict::Ready(()) => "complete".to_owned(),
        Verdict::NotYet(phase) | Verdict::Never(phase) => phase,
    };
    let (seen, now) = (phase(before), phase(after));
    if seen == now {
        return Vec::new();
    }
    vec![format!("{seen} → {now}")]
}

async fn record_changes<K>(timeline: Timeline, objects: Api<K>, telling: Telling<K>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let mut known: BTreeMap<String, K> = BTreeMap::new();
    let mut events = wait::watch(objects, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let (name, after) = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                (object.name_any(), Some(object))
            }
            Ok(watcher::Event::Delete(object)) => (object.name_any(), None),
            Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => continue,
        };
        let state = (telling.state)(after.as_ref());
        for change in (telling.transitions)(known.get(&name), after.as_ref()) {
            timeline.record_state(telling.kind, name.as_str(), change, state);
        }
        match after {
            Some(object) => known.insert(name, object),
            None => known.remove(&name),
        };
    }
}

async fn record_events(timeline: Timeline, events: Api<Event>) {
    let mut counts: BTreeMap<String, i32> = BTreeMap::new();
    let mut watch = wait::watch(events, watcher::Config::default()).boxed();
    while let Some(event) = watch.next().await {
        let Ok(watcher::Event::Apply(event) | watcher::Event::InitApply(event)) = event else {
            continue;
        };
        let count = event.count.unwrap_or(1);
        if counts.insert(event.name_any(), count) == Some(count) {
            continue;
        }
        let object = &event.involved_object;
        let kind = object.kind.as_deref().unwrap_or("object").to_lowercase();
        let subject = format!("{kind} {}", object.name.as_deref().unwrap_or("?"));
        timeline.record(Kind::Event, subject, describe_event(&event, count));
    }
}

fn describe_event(event: &Event, count: i32) -> String {
    let reason = event.reason.as_deref().unwrap_or("?");
    let message = event.message.as_deref().unwrap_or_default().trim();
    if count > 1 {
        format!("{reason} (×{count}): {message}")
    } else {
        format!("{reason}: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: &str) -> Pod {
        let yaml = format!(
            "{{metadata: {{name: vk-0}}, spec: {{containers: [{{name: valkey}}]}}, status: {status}}}"
        );
        serde_yaml::from_str(&yaml).expect("the test's own YAML is a pod")
    }

    #[test]
    fn a_transition_tells_what_changed_and_nothing_else() {
        let pending = pod("{phase: Pending}");
        let running = pod("{phase: Running, podIP: 10.244.0.7}");
        assert_eq!(transitions(None, Some(&pending)), ["absent → Pending 0/1"]);
        assert_eq!(
            transitions(Some(&pending), Some(&running)),
            ["Pending 0/1 → Running 0/1", "has address 10.244.0.7"]
        );
        assert!(transitions(Some(&running), Some(&running)).is_empty());
        assert_eq!(transitions(Some(&running), None), ["Running 0/1 → absent"]);
    }

    #[test]
    fn cluster_state_is_recorded_only_when_it_changes() {
        let timeline = Timeline::default();
        for state in ["fail", "fail", "ok", "ok", "fail"] {
            timeline.cluster_state("vk-0", state);
        }
        let texts: Vec<String> = timeline.entries().into_iter().map(|entry| entry.text).collect();
        assert_eq!(
            texts,
            [
                "cluster_state unknown → fail",
                "cluster_state fail → ok",
                "cluster_state ok → fail"
            ]
        );
    }

    #[test]
    fn an_entry_prints_its_moment_kind_and_subject() {
        let entry = Entry {
            at_ms: 12_034,
            kind: Kind::Event,
            subject: "pod vk-0".into(),
            text: "Pulled: x".into(),
            state: None,
        };
        assert_eq!(entry.to_string(), "  12.034  event    pod vk-0: Pulled: x");
    }
}
