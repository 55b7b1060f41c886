//! Events about pods, as the kubelet emits them: written in the background, with repetitions
//! counted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;

/// Number of different events remembered for counting; the size of the kubelet's cache.
const REMEMBERED: usize = 4096;

/// The sender of events. It never blocks the caller.
#[derive(Clone, Debug)]
pub(crate) struct EventSink {
    sender: mpsc::UnboundedSender<Pending>,
}

#[derive(Debug)]
struct Pending {
    about: ObjectReference,
    warning: bool,
    reason: &'static str,
    message: String,
}

impl EventSink {
    /// Starts the writer, which ends when the last sink is dropped.
    pub(crate) fn start(client: Client, node: String) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(write_all(client, node, receiver));
        Self { sender }
    }

    /// Sends an event of type Normal.
    pub(crate) fn normal(
        &self,
        pod: &Pod,
        container: Option<&str>,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.emit(pod, container, false, reason, message.into());
    }

    /// Sends an event of type Warning.
    pub(crate) fn warning(
        &self,
        pod: &Pod,
        container: Option<&str>,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.emit(pod, container, true, reason, message.into());
    }

    fn emit(&self, pod: &Pod, container: Option<&str>, warning: bool, reason: &'static str, message: String) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: container.map(|name| field_path(pod, name)),
        };
        // The writer ends only when the node does.
        let _ = self.sender.send(Pending {
            about,
            warning,
            reason,
            message,
        });
    }
}

fn field_path(pod: &Pod, container: &str) -> String {
    let init = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .any(|c| c.name == container);
    format!(
        "spec.{}{{{container}}}",
        if init { "initContainers" } else { "containers" }
    )
}

type Key = (Option<String>, Option<String>, &'static str, String);

async fn write_all(client: Client, node: String, mut pending: mpsc::UnboundedReceiver<Pending>) {
    let mut known: BTreeMap<Key, (String, i32)> = BTreeMap::new();
    while let Some(event) = pending.recv().await {
        let key = (
            event.about.uid.clone(),
            event.about.field_path.clone(),
            event.reason,
            event.message.clone(),
        );
        let namespace = event.about.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let result = match known.get_mut(&key) {
            Some((name, count)) => {
                *count += 1;
                let now = Time(jiff::Timestamp::now());
                let patch = serde_json::json!({"count": *count, "lastTimestamp": now});
                events
                    .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .map(drop)
            }
            None => {
                let object = new_event(&node, event);
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(key, (object.metadata.name.clone().unwrap_or_default(), 1));
                events.create(&PostParams::default(), &object).await.map(drop)
            }
        };
        if let Err(error) = result {
            // A terminating namespace refuses events; no warning is needed.
            tracing::debug!(%error, namespace, "an event could not be written");
        }
    }
}

fn new_event(node: &str, pending: Pending) -> Event {
    let now = Time(jiff::Timestamp::now());
    let suffix = &uuid::Uuid::new_v4().simple().to_string()[..16];
    let name = format!("{}.{suffix}", pending.about.name.as_deref().unwrap_or_default());
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pending.about.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: pending.about,
        reason: Some(pending.reason.to_owned()),
        message: Some(pending.message),
        type_: Some(if pending.warning { "Warning" } else { "Normal" }.to_owned()),
        source: Some(EventSource {
            component: Some("kubelet".to_owned()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(node.to_owned()),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    }
}
