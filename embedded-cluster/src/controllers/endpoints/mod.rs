//! EndpointSlices and Endpoints of Services that have a selector.
//!
//! | module | what is in it |
//! |---|---|
//! | `members` | which pods are a Service's endpoints, and in what condition; pure |
//! | `slices`, `legacy` | the EndpointSlices and the Endpoints object made of them; pure |
//! | `reconcile` | writes them |

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
        // Every Service of the pod's namespace, not only those that select it now: it may just have lost a label.
        Object::Pod(pod) => in_namespace(hub, &pod.namespace().unwrap_or_default()),
        // Someone took them away or changed them, or it was ourselves: what is written is compared with what the store
        // has by now.
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
