//! What the others knew of a pod at the moment when it was taken away. Looked at when the API says that the pod is being
//! deleted: what its peers say of it then is what they said before, as they need a node timeout to notice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::context::Context;
use super::error::TrialError;
use super::observer::{Observer, is_server};
use crate::valkey::ClusterObservation;

/// A server pod that was taken away.
#[derive(Debug, Clone)]
pub struct Departure {
    /// The pod.
    pub pod: String,
    /// Which pod of that name it was.
    pub uid: String,
    /// What the release looked like then.
    pub seen: ClusterObservation,
    /// How long it took to look: a pod that is going may not answer any more, and is waited for.
    pub took: Duration,
}

/// Watches for server pods that are taken away, until it is finished or dropped.
pub(super) struct Departures {
    found: Arc<Mutex<Vec<Departure>>>,
    watch: JoinHandle<()>,
}

impl Departures {
    /// Starts to watch, and returns when nothing can be missed any more.
    pub(super) async fn watch(context: &Context) -> Result<Self, TrialError> {
        let observer = context.observer(context.installed_values()?);
        let found = Arc::default();
        let (ready, watching) = oneshot::channel();
        let watch = tokio::spawn(follow(context.pods(), observer, Arc::clone(&found), ready));
        // An error means that the watch has ended, which it does only with the process.
        let _ = watching.await;
        Ok(Self { found, watch })
    }

    /// Every pod that was taken away since, in that order.
    pub(super) fn finish(self) -> Vec<Departure> {
        std::mem::take(
            &mut *self
                .found
                .lock()
                .expect("no code panics while it holds the departures"),
        )
    }
}

impl Drop for Departures {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

async fn follow(
    pods: Api<Pod>,
    observer: Observer,
    found: Arc<Mutex<Vec<Departure>>>,
    ready: oneshot::Sender<()>,
) {
    let mut ready = Some(ready);
    let mut known = BTreeSet::new();
    let mut looks = JoinSet::new();
    let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let pod = match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => pod,
            Ok(watcher::Event::InitDone) => {
                ready.take().map(|ready| ready.send(()));
                continue;
            }
            // The watcher tries again by itself.
            Ok(watcher::Event::Init | watcher::Event::Delete(_)) | Err(_) => continue,
        };
        let uid = pod.uid().unwrap_or_default();
        let leaves = pod.metadata.deletion_timestamp.is_some() && is_server(&pod);
        if !leaves || !known.insert(uid.clone()) || ready.is_some() {
            continue;
        }
        let (observer, found) = (observer.clone(), Arc::clone(&found));
        let heard = Instant::now();
        looks.spawn(async move {
            if let Ok(seen) = observer.observe().await {
                let departure = Departure {
                    pod: pod.name_any(),
                    uid,
                    seen,
                    took: heard.elapsed(),
                };
                found
                    .lock()
                    .expect("no code panics while it holds the departures")
                    .push(departure);
            }
        });
    }
}
