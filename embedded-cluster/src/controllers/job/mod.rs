//! The Job controller, for non-indexed Jobs.
//!
//! | module | what is in it |
//! |---|---|
//! | `pod` | the pods that a Job creates; pure |
//! | `ledger` | the pods that have succeeded and failed, each counted once |
//! | `plan` | the next step of a Job: pods, its end, its status; pure |
//! | `reconcile` | reads, decides, acts |
//!
//! Indexed Jobs, pod failure policies and success policies are refused with an event, and no pod is
//! created. Pods do not carry the `batch.kubernetes.io/job-tracking` finalizer: the ledger replaces
//! it.

mod ledger;
mod plan;
mod pod;
mod reconcile;

use std::sync::{Arc, PoisonError};

use futures::FutureExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

pub(super) use ledger::Ledger;

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

fn concerns(change: &Change, hub: &Hub) -> Vec<ObjectRef<Job>> {
    let mut ledgers = hub.job_ledgers.lock().unwrap_or_else(PoisonError::into_inner);
    match &change.object {
        Object::Job(job) if change.deleted => {
            ledgers.remove(&job.uid().unwrap_or_default());
            Vec::new()
        }
        Object::Job(job) => vec![ObjectRef::from_obj(job.as_ref())],
        Object::Pod(pod) => {
            let owner = controller_of_kind::<Job>(&pod.metadata);
            let job = owner
                .map(|owner| ObjectRef::<Job>::new(&owner.name).within(&pod.namespace().unwrap_or_default()));
            // A deleted Job needs no ledger any more.
            let uid = job.and_then(|job| hub.jobs.get(&job)).and_then(|job| job.uid());
            if let Some(ledger) = uid.map(|uid| ledgers.entry(uid).or_default()) {
                ledger.observe(pod, change.deleted, Timestamp::now());
            }
            let namespace = pod.namespace().unwrap_or_default();
            owner
                .map(|owner| ObjectRef::new(&owner.name).within(&namespace))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}
