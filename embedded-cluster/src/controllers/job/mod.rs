//! The Job controller, for non-indexed Jobs.
//!
//! | module | what is in it |
//! |---|---|
//! | `pod` | the pods a Job makes; pure |
//! | `plan` | what a Job needs now: pods, its end, its status; pure |
//! | `reconcile` | reads, decides, acts |
//!
//! Indexed Jobs, pod failure policies and success policies are refused with an event, and no pod is made. Pods do
//! not carry the `batch.kubernetes.io/job-tracking` finalizer: counts in the status never go down, which is what
//! it is for, and only a finished pod deleted by hand before it was seen could tell the difference.

mod plan;
mod pod;
mod reconcile;

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::drive::drive;
use super::hub::{Change, Hub, Object};
use super::owners::controller_of_kind;

/// Runs the controller.
pub(crate) async fn run(hub: Arc<Hub>) {
    let store = hub.jobs.clone();
    drive(hub, store, concerns, |job, hub| {
        reconcile::reconcile(job, hub).boxed()
    })
    .await;
}

fn concerns(change: &Change, _: &Hub) -> Vec<ObjectRef<Job>> {
    match &change.object {
        Object::Job(job) if !change.deleted => vec![ObjectRef::from_obj(job.as_ref())],
        Object::Pod(pod) => {
            let owner = controller_of_kind::<Job>(&pod.metadata);
            let namespace = pod.namespace().unwrap_or_default();
            owner
                .map(|owner| ObjectRef::new(&owner.name).within(&namespace))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}
