//! The peers' view of a pod at the moment of its deletion. The observation starts when the API
//! reports the deletion. Peers need a node timeout to notice a loss, so their view is still the
//! earlier one.

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
use crate::checks::Violation;
use crate::valkey::ClusterObservation;

/// A server pod that was deleted.
#[derive(Debug, Clone)]
pub struct PodDeletion {
    /// The pod.
    pub pod: String,
    /// The UID of the pod.
    pub uid: String,
    /// The observation of the release at the moment of the deletion.
    pub seen: ClusterObservation,
    /// Duration of the observation. A terminating pod may not answer any more, which delays it.
    pub took: Duration,
}

/// Every server pod that was deleted.
#[derive(Debug, Clone, Default)]
pub(super) struct DeletedPods {
    /// Pods with a requested deletion, in the order of the requests.
    pub(super) seen: Vec<PodDeletion>,
    /// Pods that were gone at once, without time to stop: their names and UIDs.
    pub(super) at_once: Vec<(String, String)>,
}

impl DeletedPods {
    /// Returns true if the pod with this name and UID was deleted.
    pub(super) fn has(&self, pod: &str, uid: &str) -> bool {
        let told = self.seen.iter().any(|gone| gone.pod == pod && gone.uid == uid);
        told || self.at_once.iter().any(|(name, id)| name == pod && id == uid)
    }

    /// Returns violations for pods without a grace period. Such a pod is killed: it saves nothing,
    /// finishes no write, and hands nothing over.
    pub(super) fn without_grace(&self) -> Vec<Violation> {
        let names: Vec<&str> = self.at_once.iter().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return Vec::new();
        }
        let expected = "to have time to stop (terminationGracePeriodSeconds above 0)";
        let seen = format!("{} were gone at once, without a grace period", names.join(", "));
        vec![Violation::new(GRACE, "the server pods", expected, seen)]
    }
}

/// The name of the check that pods have time to stop.
pub(super) const GRACE: &str = "grace";

/// Watches for deletions of server pods, until it is finished or dropped.
pub(super) struct DeletionWatch {
    found: Arc<Mutex<DeletedPods>>,
    watch: JoinHandle<()>,
}

impl DeletionWatch {
    /// Starts to watch, and returns once no deletion can be missed.
    pub(super) async fn watch(context: &Context) -> Result<Self, TrialError> {
        let observer = context.observer(context.deployment.values()?);
        let found = Arc::default();
        let (ready, watching) = oneshot::channel();
        let watch = tokio::spawn(follow(context.pods(), observer, Arc::clone(&found), ready));
        // The sender is dropped only if the watch has ended, which happens only with the process.
        let _ = watching.await;
        Ok(Self { found, watch })
    }

    /// Returns every pod deleted since the start, in order.
    pub(super) fn finish(self) -> DeletedPods {
        std::mem::take(
            &mut *self
                .found
                .lock()
                .expect("no code panics while it holds the deletions"),
        )
    }
}

impl Drop for DeletionWatch {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

async fn follow(
    pods: Api<Pod>,
    observer: Observer,
    found: Arc<Mutex<DeletedPods>>,
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
            Ok(watcher::Event::Delete(pod)) => {
                let uid = pod.uid().unwrap_or_default();
                if is_server(&pod) && known.insert(uid.clone()) {
                    let mut found = found.lock().expect("no code panics while it holds the deletions");
                    found.at_once.push((pod.name_any(), uid));
                }
                continue;
            }
            // The watcher retries automatically.
            Ok(watcher::Event::Init) | Err(_) => continue,
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
                let deletion = PodDeletion {
                    pod: pod.name_any(),
                    uid,
                    seen,
                    took: heard.elapsed(),
                };
                found
                    .lock()
                    .expect("no code panics while it holds the deletions")
                    .seen
                    .push(deletion);
            }
        });
    }
}
