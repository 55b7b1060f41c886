//! The scheduler: binds pods to a node when the pod's rules allow it, and otherwise reports why
//! not.
//!
//! | module | what is in it |
//! |---|---|
//! | `filter` | test of a node for a pod; pure |
//! | `topology` | affinity, anti-affinity and spread; pure |
//! | `reconcile` | reads, decides, binds |
//!
//! Of the nodes that fit, the one with the fewest pods is chosen. Preferences (preferred
//! affinities, `ScheduleAnyway`) are ignored, and no pod is preempted.

mod filter;
mod reconcile;
mod topology;

pub(crate) use filter::tolerates;

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::drive::drive;
use super::hub::{Change, Hub, Object};
use super::pods;

/// Runs the controller.
pub(crate) async fn run(hub: Arc<Hub>) {
    let store = hub.pods.clone();
    drive(hub, store, concerns, |pod, hub| {
        reconcile::reconcile(pod, hub).boxed()
    })
    .await;
}

fn concerns(change: &Change, hub: &Hub) -> Vec<ObjectRef<Pod>> {
    match &change.object {
        Object::Pod(pod) if !change.deleted && waits(pod) => vec![ObjectRef::from_obj(pod.as_ref())],
        // A pod that ended frees resources, or a node or a claim changed: waiting pods may fit now.
        Object::Pod(pod) if change.deleted || pods::is_finished(pod) => waiting(hub),
        Object::Node(_) | Object::PersistentVolumeClaim(_) => waiting(hub),
        _ => Vec::new(),
    }
}

fn waiting(hub: &Hub) -> Vec<ObjectRef<Pod>> {
    hub.pods
        .state_filter(waits)
        .iter()
        .map(|pod| ObjectRef::from_obj(pod.as_ref()))
        .collect()
}

/// Returns true if the pod has no node yet and this scheduler is responsible for it.
fn waits(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.node_name.is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && !pods::is_finished(pod)
        && spec.scheduling_gates.iter().flatten().next().is_none()
        && spec
            .scheduler_name
            .as_deref()
            .is_none_or(|name| name == "default-scheduler")
        && !pod.name_any().is_empty()
}
