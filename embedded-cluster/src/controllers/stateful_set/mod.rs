//! The StatefulSet controller. It follows the steps of the one in kube-controller-manager.
//!
//! | module | what is in it |
//! |---|---|
//! | `identity` | names, ordinals, and the pod and claims that belong to an ordinal; pure |
//! | `plan` | pods to create and delete now; pure |
//! | `status` | computation of the status from the pods; pure |
//! | `revisions` | ControllerRevisions: the templates from which pods are made |
//! | `reconcile` | reads, decides, acts |
//!
//! As in Kubernetes, an OrderedReady set whose pod never becomes ready is blocked even after its
//! template is fixed. The broken pod must be deleted by hand.

mod identity;
mod plan;
mod reconcile;
mod revisions;
mod status;

pub(super) use revisions::hash;

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::drive::drive;
use super::hub::{Change, Hub, Object};
use super::owners::controller_of_kind;

/// Runs the controller.
pub(crate) async fn run(hub: Arc<Hub>) {
    let store = hub.stateful_sets.clone();
    drive(hub, store, concerns, |set, hub| {
        reconcile::reconcile(set, hub).boxed()
    })
    .await;
}

fn concerns(change: &Change, hub: &Hub) -> Vec<ObjectRef<StatefulSet>> {
    match &change.object {
        Object::StatefulSet(set) if !change.deleted => vec![ObjectRef::from_obj(set.as_ref())],
        Object::Pod(pod) => {
            let namespace = pod.namespace().unwrap_or_default();
            match controller_of_kind::<StatefulSet>(&pod.metadata) {
                Some(owner) => vec![ObjectRef::new(&owner.name).within(&namespace)],
                // An orphan: its name determines the set that may adopt it.
                None => orphans_set(&pod.name_any(), &namespace, hub)
                    .into_iter()
                    .collect(),
            }
        }
        _ => Vec::new(),
    }
}

fn orphans_set(pod: &str, namespace: &str, hub: &Hub) -> Option<ObjectRef<StatefulSet>> {
    let (set, _ordinal) = pod.rsplit_once('-')?;
    let reference = ObjectRef::new(set).within(namespace);
    hub.stateful_sets.get(&reference).map(|_| reference)
}
