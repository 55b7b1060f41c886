//! Everything that happened during a trial, on one clock: its steps, Kubernetes events, pod transitions, hook output and
//! changes of cluster_state.
//!
//! It is filled from watches in the background, not from polling, so that a short-lived state is in it too. It is a
//! record for people and for the triage; nothing decides anything by reading it while a trial runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::wait::{Patience, conditions};

/// What kind of thing an [`Entry`] tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A step of the trial began or ended.
    Step,
    /// A Kubernetes event.
    Event,
    /// A pod changed.
    Pod,
    /// A line that a hook printed.
    Hook,
    /// A node's `cluster_state` changed.
    ClusterState,
    /// Anything else worth a line.
    Note,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds since the trial began.
    pub at_ms: u64,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What it is about: a pod, a job, a step.
    pub subject: String,
    /// What happened, in one line.
    pub text: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Step => "step",
            Kind::Event => "event",
            Kind::Pod => "pod",
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
                record: Mutex::default(),
                patience: Patience::default(),
            }),
        }
    }
}

impl Timeline {
    /// Writes one entry down, at the present moment.
    pub fn record(&self, kind: Kind, subject: impl Into<String>, text: impl Into<String>) {
        let at_ms = self.elapsed_ms();
        self.lock().entries.push(Entry {
            at_ms,
            kind,
            subject: subject.into(),
            text: text.into(),
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
            self.record(
                Kind::ClusterState,
                node,
                format!("cluster_state {before} → {state}"),
            );
        }
    }

    /// Milliseconds since the timeline began.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.inner.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What stops the clock of waits in the namespace that is watched.
    pub fn patience(&self) -> Patience {
        self.inner.patience.clone()
    }

    /// A copy of every entry so far, in order.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    /// Starts to record the events and pod transitions of `namespace`, and what its waits wait for, until the returned guard is dropped.
    pub fn watch(&self, client: &Client, namespace: &str) -> NamespaceWatch {
        let mut tasks = JoinSet::new();
        tasks.spawn(record_pods(
            self.clone(),
            Api::namespaced(client.clone(), namespace),
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

async fn record_pods(timeline: Timeline, pods: Api<Pod>) {
    let mut known: BTreeMap<String, Pod> = BTreeMap::new();
    let mut events = watcher::watcher(pods, watcher::Config::default())
        .default_backoff()
        .boxed();
    while let Some(event) = events.next().await {
        let (name, after) = match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => (pod.name_any(), Some(pod)),
            Ok(watcher::Event::Delete(pod)) => (pod.name_any(), None),
            Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => continue,
        };
        for change in transitions(known.get(&name), after.as_ref()) {
            timeline.record(Kind::Pod, name.as_str(), change);
        }
        match after {
            Some(pod) => known.insert(name, pod),
            None => known.remove(&name),
        };
    }
}

async fn record_events(timeline: Timeline, events: Api<Event>) {
    let mut counts: BTreeMap<String, i32> = BTreeMap::new();
    let mut watch = watcher::watcher(events, watcher::Config::default())
        .default_backoff()
        .boxed();
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
        };
        assert_eq!(entry.to_string(), "  12.034  event    pod vk-0: Pulled: x");
    }
}
