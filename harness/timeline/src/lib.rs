//! Record of a trial's events on one clock: steps, Kubernetes events, changes of pods, Jobs and
//! cluster_state, and hook output.
//!
//! Watches in the background fill the timeline. Unlike polling, they also catch short-lived states.
//! The record is for people and for the triage. No code makes a decision from it during a trial.

mod bounds;
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

use bounds::Entries;
pub use state::SubjectState;

use wait::{self, DeadlinePauses, Verdict, conditions};

/// The kind of thing that an [`Entry`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
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
    /// The kind of the subject.
    pub kind: EntryKind,
    /// The subject: a pod, a job, a step.
    pub subject: String,
    /// The event, in one line.
    pub text: String,
    /// The state of the subject from now on, if the entry has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<SubjectState>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            EntryKind::Step => "step",
            EntryKind::Event => "event",
            EntryKind::Pod => "pod",
            EntryKind::Job => "job",
            EntryKind::Hook => "hook",
            EntryKind::ClusterState => "cluster",
            EntryKind::Note => "note",
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

/// The record of a trial. Clones share their content.
#[derive(Debug, Clone)]
pub struct Timeline {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    origin: Instant,
    began: Timestamp,
    record: Mutex<Record>,
    pauses: DeadlinePauses,
}

#[derive(Debug, Default)]
struct Record {
    entries: Entries,
    cluster_states: BTreeMap<String, String>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                origin: Instant::now(),
                began: Timestamp::now(),
                record: Mutex::default(),
                pauses: DeadlinePauses::default(),
            }),
        }
    }
}

impl Timeline {
    /// Records one entry at the present moment.
    pub fn record(&self, kind: EntryKind, subject: impl Into<String>, text: impl Into<String>) {
        self.push(kind, subject.into(), text.into(), None);
    }

    /// Records a change, and the new state of the subject.
    pub fn record_state(
        &self,
        kind: EntryKind,
        subject: impl Into<String>,
        text: impl Into<String>,
        state: SubjectState,
    ) {
        self.push(kind, subject.into(), text.into(), Some(state));
    }

    fn push(&self, kind: EntryKind, subject: String, text: String, state: Option<SubjectState>) {
        let at_ms = self.elapsed_ms();
        let mut record = self.lock();
        if kind == EntryKind::Pod && state == Some(SubjectState::Absent) {
            // A new pod under this name has not reported a state yet.
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

    /// Records the `cluster_state` that `node` reports, if it differs from the previous one.
    pub fn cluster_state(&self, node: &str, state: &str) {
        let before = self
            .lock()
            .cluster_states
            .insert(node.to_owned(), state.to_owned());
        if before.as_deref() != Some(state) {
            let before = before.unwrap_or_else(|| "unknown".to_owned());
            let now = if state == "ok" {
                SubjectState::Ready
            } else {
                SubjectState::Failed
            };
            let text = format!("cluster_state {before} → {state}");
            self.record_state(EntryKind::ClusterState, node, text, now);
        }
    }

    /// Returns the milliseconds since the timeline began.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.inner.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Converts `moment` to milliseconds of the timeline; 0 for a moment before its beginning.
    pub fn at_ms(&self, moment: Timestamp) -> u64 {
        u64::try_from(moment.duration_since(self.inner.began).as_millis()).unwrap_or(0)
    }

    /// Returns the deadline pauses of waits in the watched namespace.
    pub fn deadline_pauses(&self) -> DeadlinePauses {
        self.inner.pauses.clone()
    }

    /// Copies the entries so far, in order. A flooding kind keeps only its first and last entries.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.all()
    }

    /// Records events, transitions of pods and Jobs, and pauses of waits in `namespace`. Stops when
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
        let pauses = self
            .deadline_pauses()
            .follow(client.clone(), namespace.to_owned(), move |busy| {
                timeline.record(EntryKind::Note, "cluster", busy);
            });
        tasks.spawn(pauses);
        NamespaceWatch { _tasks: tasks }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.inner
            .record
            .lock()
            .expect("no code panics while it holds the timeline")
    }
}

/// Guard that keeps the background watches of a namespace running until it is dropped.
#[derive(Debug)]
pub struct NamespaceWatch {
    _tasks: JoinSet<()>,
}

/// Returns the changes between two states of one pod, each in a few words.
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

/// The functions that describe the changes of one kind of object.
struct Telling<K> {
    kind: EntryKind,
    transitions: fn(Option<&K>, Option<&K>) -> Vec<String>,
    state: fn(Option<&K>) -> SubjectState,
}

const POD: Telling<Pod> = Telling {
    kind: EntryKind::Pod,
    transitions,
    state: state::of_pod,
};

const JOB: Telling<Job> = Telling {
    kind: EntryKind::Job,
    transitions: job_transitions,
    state: state::of_job,
};

/// Returns the changes between two states of one Job, in a few words.
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
        timeline.record(EntryKind::Event, subject, describe_event(&event, count));
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
            kind: EntryKind::Event,
            subject: "pod vk-0".into(),
            text: "Pulled: x".into(),
            state: None,
        };
        assert_eq!(entry.to_string(), "  12.034  event    pod vk-0: Pulled: x");
    }
}
