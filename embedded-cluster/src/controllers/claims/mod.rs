//! PersistentVolumeClaims: binding, provisioning, protection and reclaiming.
//!
//! | module | what is in it |
//! |---|---|
//! | `decide` | the next step of a claim; pure |
//! | `volume` | the PersistentVolume made for a claim; pure |
//! | `reconcile` | acts on claims |
//! | `reclaim` | acts on volumes whose claim is gone |
//!
//! A volume is a directory on the node, as with kind's local-path provisioner. As there, the
//! requested capacity is recorded and not enforced. Only claims of the default provisioner and
//! claims that name a volume are bound. The controller does not search for a matching volume; a
//! claim that needs a search gets an event.

mod decide;
mod reclaim;
mod reconcile;
mod volume;

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::drive::drive;
use super::hub::{Change, Hub, Object};
use super::pods;

pub(crate) use decide::{is_bound, waits_for_consumer};

/// The provisioner of the default StorageClass.
pub(crate) const PROVISIONER: &str = "embedded.cluster/local";
/// The annotation in which the scheduler names the node of a claim's first consumer.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Runs both controllers.
pub(crate) async fn run(hub: Arc<Hub>) {
    let claims = drive(hub.clone(), hub.claims.clone(), concerned_claims, |claim, hub| {
        reconcile::reconcile(claim, hub).boxed()
    });
    let volumes = drive(
        hub.clone(),
        hub.volumes.clone(),
        concerned_volumes,
        |volume, hub| reclaim::reconcile(volume, hub).boxed(),
    );
    futures::join!(claims, volumes);
}

fn concerned_claims(change: &Change, hub: &Hub) -> Vec<ObjectRef<PersistentVolumeClaim>> {
    match &change.object {
        Object::PersistentVolumeClaim(claim) if !change.deleted => vec![ObjectRef::from_obj(claim.as_ref())],
        // A claim may become deletable when a pod is created or deleted.
        Object::Pod(pod) => {
            let namespace = pod.namespace().unwrap_or_default();
            pods::claim_names(pod)
                .map(|name| ObjectRef::new(name).within(&namespace))
                .collect()
        }
        Object::StorageClass(_) | Object::PersistentVolume(_) => {
            let pending = hub.claims.state_filter(|claim| !decide::is_bound(claim));
            pending
                .iter()
                .map(|claim| ObjectRef::from_obj(claim.as_ref()))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn concerned_volumes(change: &Change, _: &Hub) -> Vec<ObjectRef<PersistentVolume>> {
    match &change.object {
        Object::PersistentVolume(volume) if !change.deleted => vec![ObjectRef::from_obj(volume.as_ref())],
        Object::PersistentVolumeClaim(claim) if change.deleted => {
            let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
            volume.map(ObjectRef::new).into_iter().collect()
        }
        _ => Vec::new(),
    }
}
