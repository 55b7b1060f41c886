//! Updates of volumes from their objects: at every sync of the pod, as in the kubelet. A sync
//! happens about a minute after the last one, or at once when the pod or a container changes.
//! Environment variables and sub paths are never updated.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::PodContext;
use crate::delays::spread;
use crate::node::chain;

/// The time from a change of a pod until its volumes have followed. On a real node it was measured
/// as 0.6 to 1.0 s.
const REMOUNT: Duration = Duration::from_millis(600);

/// Runs until the pod is finished.
pub(super) async fn follow_objects(pod: Arc<PodContext>) {
    let mut syncs = pod.sync.subscribe();
    loop {
        let next = Instant::now() + spread(pod.node.delays.pod_sync);
        tokio::select! {
            // This wait is the kubelet's sync frequency.
            () = sleep_until(next) => {}
            changed = syncs.changed() => {
                if changed.is_err() {
                    return;
                }
                // This wait is the remount delay.
                sleep_until(Instant::now() + REMOUNT).await;
            }
            () = pod.done.cancelled() => return,
        }
        syncs.borrow_and_update();
        if !pod.lock_facts().sandbox_ready {
            continue;
        }
        if let Err(error) = pod.node.volumes.refresh(&pod.latest(), &pod.dir).await {
            pod.warning(None, "FailedMount", chain(&error));
        }
    }
}
