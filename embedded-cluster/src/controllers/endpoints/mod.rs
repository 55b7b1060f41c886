//! EndpointSlices and Endpoints of Services that have a selector.
//!
//! | module | what is in it |
//! |---|---|
//! | `members` | the pods that are a Service's endpoints, with their conditions; pure |
//! | `slices`, `legacy` | the EndpointSlices and the Endpoints object made of them; pure |
//! | `reconcile` | writes both |

mod legacy;
mod members;
mod reconcile;
mod slices;

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::drive::drive;
use super::hub::{Change, Hub, Object};

/// Runs the controller.
pub(crate) async fn run(hub: Arc<Hub>) {
    let store = hub.services.clone();
    drive(hub, store, concerns, |service, hub| {
        reconcile::reconcile(service, hub).boxed()
    })
    .await;
}

fn concerns(change: &Change, hub: &Hub) -> Vec<ObjectRef<Service>> {
    match &change.object {
        Object::Service(service) if !change.deleted => vec![ObjectRef::from_obj(service.as_ref())],
        // Includes all Services of the pod's namespace: a pod that just lost a label may have left
        // one.
        Object::Pod(pod) => in_namespace(hub, &pod.namespace().unwrap_or_default()),
        // A user or this controller changed or deleted the object. The reconciler compares the
        // wanted object with the store's current one.
        Object::EndpointSlice(_) | Object::Endpoints(_) => {
            in_namespace(hub, change.object.meta().namespace.as_deref().unwrap_or_default())
        }
        _ => Vec::new(),
    }
}

fn in_namespace(hub: &Hub, namespace: &str) -> Vec<ObjectRef<Service>> {
    let services = hub
        .services
        .state_filter(|service| service.namespace().as_deref() == Some(namespace));
    services
        .iter()
        .map(|service| ObjectRef::from_obj(service.as_ref()))
        .collect()
}
