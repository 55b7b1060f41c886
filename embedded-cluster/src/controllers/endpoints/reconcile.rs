//! Reconciliation of a Service's EndpointSlices and Endpoints: writes them when they differ from
//! the wanted ones. Reads the current objects from the shared stores, since pods change many times
//! a second. A write that is based on a stale object is refused and repeated.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use super::legacy::endpoints;
use super::members::members;
use super::slices::{MANAGED_BY, SERVICE_NAME, slices};
use crate::controllers::drive::Reconciled;
use crate::controllers::error::{ControllerError, During};
use crate::controllers::hub::Hub;

/// Reconciles the endpoints of one Service.
pub(crate) async fn reconcile(service: Arc<Service>, hub: Arc<Hub>) -> Reconciled {
    if service.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let pods = hub
        .pods
        .state_filter(|pod| pod.metadata.namespace == service.metadata.namespace);
    let Some(members) = members(&service, pods.iter().map(AsRef::as_ref)) else {
        return Ok(Action::await_change());
    };
    write_slices(&hub, &service, slices(&service, &members)).await?;
    write_endpoints(&hub, endpoints(&service, &members)).await?;
    Ok(Action::await_change())
}

async fn write_slices(
    hub: &Hub,
    service: &Service,
    wanted: Vec<EndpointSlice>,
) -> Result<(), ControllerError> {
    let name = service.name_any();
    let api = hub.api::<EndpointSlice>(&service.namespace().unwrap_or_default());
    let is_ours = |slice: &EndpointSlice| {
        let label = |key| slice.labels().get(key).map(String::as_str);
        slice.metadata.namespace == service.metadata.namespace
            && label(SERVICE_NAME) == Some(name.as_str())
            && label(MANAGED_BY.0) == Some(MANAGED_BY.1)
    };
    let mut present = hub.endpoint_slices.state_filter(is_ours);
    for mut slice in wanted {
        let slice_name = slice.name_any();
        let found = present.iter().position(|found| found.name_any() == slice_name);
        match found.map(|index| present.swap_remove(index)) {
            None => {
                let created = api.create(&PostParams::default(), &slice).await;
                created
                    .unless_there()
                    .during(|| format!("create slice {slice_name}"))?;
            }
            Some(found) if same(&found, &slice) => {}
            Some(found) => {
                slice
                    .metadata
                    .resource_version
                    .clone_from(&found.metadata.resource_version);
                let replaced = api.replace(&slice_name, &PostParams::default(), &slice).await;
                replaced
                    .unless_gone()
                    .during(|| format!("update slice {slice_name}"))?;
            }
        }
    }
    for surplus in present {
        let deleted = api.delete(&surplus.name_any(), &DeleteParams::default()).await;
        deleted
            .unless_gone()
            .during(|| format!("delete slice {}", surplus.name_any()))?;
    }
    Ok(())
}

/// Returns true if both slices have equal content. An absent list equals an empty one.
fn same(found: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    found.metadata.labels == wanted.metadata.labels
        && found
            .endpoints
            .iter()
            .flatten()
            .eq(wanted.endpoints.iter().flatten())
        && found.ports.iter().flatten().eq(wanted.ports.iter().flatten())
}

async fn write_endpoints(hub: &Hub, mut wanted: Endpoints) -> Result<(), ControllerError> {
    let name = wanted.name_any();
    let api = hub.api::<Endpoints>(&wanted.namespace().unwrap_or_default());
    match hub.endpoints.get(&ObjectRef::from_obj(&wanted)) {
        None => {
            let created = api.create(&PostParams::default(), &wanted).await;
            created
                .unless_there()
                .during(|| format!("create Endpoints {name}"))
                .map(drop)
        }
        Some(found) if found.subsets == wanted.subsets && found.metadata.labels == wanted.metadata.labels => {
            Ok(())
        }
        Some(found) => {
            wanted
                .metadata
                .resource_version
                .clone_from(&found.metadata.resource_version);
            let replaced = api.replace(&name, &PostParams::default(), &wanted).await;
            replaced
                .unless_gone()
                .during(|| format!("update Endpoints {name}"))
                .map(drop)
        }
    }
}
