//! The scheduler: binds pods to the node when the pod's own rules allow it, and says why when they do not.
//!
//! | module | what is in it |
//! |---|---|
//! | `filter` | whether a node fits a pod; pure |
//! | `quantity` | cpu and memory amounts; pure |
//! | `reconcile` | reads, decides, binds |
//!
//! Filters, no scores: there is one node. Not looked at, because nothing can follow from it on one node:
//! preferred affinities, topology spread with `ScheduleAnyway`, pod affinity. A topology spread constraint with
//! `DoNotSchedule` is met by any single node.

mod filter;
mod quantity;
mod reconcile;

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
        // A pod that ended made room; a node or a claim changed: whoever waits may fit now.
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

/// The pod has no node yet, and this scheduler is to find it one.
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
