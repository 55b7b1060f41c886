//! The Deployment controller: one ReplicaSet per template, and the transition from one to the next.
//!
//! | module | what is in it |
//! |---|---|
//! | `plan` | number of replicas that each set should have now; pure |
//! | `status` | computation of the status; pure |
//! | `reconcile` | reads, decides, acts |
//!
//! A paused Deployment keeps its sets unchanged. Scaling during an update changes only the new set,
//! not all sets in proportion.

mod plan;
mod reconcile;
mod status;

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::drive::drive;
use super::hub::{Change, Hub, Object};
use super::owners::controller_of_kind;

/// Runs the controller.
pub(crate) async fn run(hub: Arc<Hub>) {
    let store = hub.deployments.clone();
    drive(hub, store, concerns, |deployment, hub| {
        reconcile::reconcile(deployment, hub).boxed()
    })
    .await;
}

fn concerns(change: &Change, _: &Hub) -> Vec<ObjectRef<Deployment>> {
    match &change.object {
        Object::Deployment(deployment) if !change.deleted => vec![ObjectRef::from_obj(deployment.as_ref())],
        Object::ReplicaSet(set) => {
            let owner = controller_of_kind::<Deployment>(&set.metadata);
            let namespace = set.namespace().unwrap_or_default();
            owner
                .map(|owner| ObjectRef::new(&owner.name).within(&namespace))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}
