//! Events about objects, as `kubectl describe` shows them: core/v1, with repetitions counted in one
//! Event.
//!
//! `kube::runtime::events` is not used: it writes `events.k8s.io/v1`, which `kubectl describe`
//! prints with `<unknown>` ages. The controllers of a real cluster still write core/v1.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};

/// Number of distinct events remembered for counting. When it is exceeded, the memory is cleared.
/// client-go's cache has 4096.
const REMEMBERED: usize = 4096;

/// A publisher of Events from one named component. Clones share the memory of counted events.
#[derive(Clone)]
pub(crate) struct EventRecorder {
    client: Client,
    component: &'static str,
    seen: Arc<Mutex<HashMap<EventKey, Seen>>>,
}

#[derive(PartialEq, Eq, Hash)]
struct EventKey {
    uid: String,
    reason: String,
    message: String,
}

#[derive(Clone)]
struct Seen {
    name: String,
    count: i32,
}

impl EventRecorder {
    /// Creates a recorder whose Events name `component` as their source.
    pub(crate) fn new(client: Client, component: &'static str) -> Self {
        Self {
            client,
            component,
            seen: Arc::default(),
        }
    }

    /// Publishes an event of type Normal.
    pub(crate) async fn normal<K>(&self, about: &K, reason: &str, message: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(about, "Normal", reason, message).await;
    }

    /// Publishes an event of type Warning.
    pub(crate) async fn warning<K>(&self, about: &K, reason: &str, message: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(about, "Warning", reason, message).await;
    }

    /// Publishes an event as best effort, as in Kubernetes. The object's status has the same
    /// information, and the namespace may be terminating.
    async fn publish<K>(&self, about: &K, kind: &str, reason: &str, message: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let namespace = about.namespace().unwrap_or_else(|| "default".to_owned());
        let api = Api::<Event>::namespaced(self.client.clone(), &namespace);
        let key = EventKey {
            uid: about.uid().unwrap_or_default(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let published = match self.count(&key) {
            Some(seen) => self.repeat(&api, &seen).await,
            None => {
                self.create(&api, key, self.event(about, &namespace, kind, reason, message))
                    .await
            }
        };
        if let Err(error) = published {
            tracing::debug!(%error, reason, message, "an event was not published");
        }
    }

    fn count(&self, key: &EventKey) -> Option<Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = seen.get_mut(key)?;
        found.count += 1;
        Some(found.clone())
    }

    async fn repeat(&self, api: &Api<Event>, seen: &Seen) -> kube::Result<()> {
        let patch = serde_json::json!({ "count": seen.count, "lastTimestamp": Time(jiff_now()) });
        api.patch(&seen.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(drop)
    }

    async fn create(&self, api: &Api<Event>, key: EventKey, event: Event) -> kube::Result<()> {
        let name = event.name_any();
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.len() >= REMEMBERED {
                seen.clear();
            }
            seen.insert(key, Seen { name, count: 1 });
        }
        api.create(&PostParams::default(), &event).await.map(drop)
    }

    fn event<K>(&self, about: &K, namespace: &str, kind: &str, reason: &str, message: &str) -> Event
    where
        K: Resource<DynamicType = ()>,
    {
        let now = jiff_now();
        Event {
            metadata: ObjectMeta {
                // client-go's form: the object's name and the time in nanoseconds.
                name: Some(format!("{}.{:x}", about.name_any(), now.as_nanosecond())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: about.object_ref(&()),
            type_: Some(kind.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            reporting_component: Some(self.component.to_owned()),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: None,
            }),
            ..Event::default()
        }
    }
}

fn jiff_now() -> k8s_openapi::jiff::Timestamp {
    k8s_openapi::jiff::Timestamp::now()
}
