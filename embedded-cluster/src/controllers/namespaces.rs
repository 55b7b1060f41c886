//! Namespaces: a new one gets its default content (default ServiceAccount, `kube-root-ca.crt`), a
//! deleted one loses all content.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, PartialObjectMeta, PostParams,
};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};

use super::drive::{Reconciled, drive};
use super::error::{ControllerError, During};
use super::hub::{Change, Hub, Object};

/// The time until the next check of a namespace whose pods are still stopping, if no change
/// triggers one earlier.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The finalizer that every namespace has in `spec.finalizers`.
const FINALIZER: &str = "kubernetes";

/// Runs the controller.
pub(crate) async fn run(hub: Arc<Hub>) {
    let store = hub.namespaces.clone();
    drive(hub, store, concerns, |namespace, hub| {
        reconcile(namespace, hub).boxed()
    })
    .await;
}

fn concerns(change: &Change, hub: &Hub) -> Vec<ObjectRef<Namespace>> {
    if let Object::Namespace(namespace) = &change.object {
        return if change.deleted {
            Vec::new()
        } else {
            vec![ObjectRef::from_obj(namespace.as_ref())]
        };
    }
    // A deleted object may be the last one that kept the namespace, or one that the namespace must
    // have.
    let Some(name) = change
        .object
        .meta()
        .namespace
        .as_deref()
        .filter(|_| change.deleted)
    else {
        return Vec::new();
    };
    let reference = ObjectRef::new(name);
    let furnishing = matches!(&change.object, Object::ServiceAccount(_) | Object::ConfigMap(_));
    let terminating = hub
        .namespaces
        .get(&reference)
        .is_some_and(|found| is_terminating(&found));
    if terminating || furnishing {
        vec![reference]
    } else {
        Vec::new()
    }
}

fn is_terminating(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

async fn reconcile(namespace: Arc<Namespace>, hub: Arc<Hub>) -> Reconciled {
    if !is_terminating(&namespace) {
        furnish(&namespace.name_any(), &hub).await?;
        return Ok(Action::await_change());
    }
    if empty(&namespace.name_any(), &hub.client).await? {
        finalize(&namespace, &hub.client).await?;
        return Ok(Action::await_change());
    }
    Ok(Action::requeue(LOOK_AGAIN))
}

async fn furnish(namespace: &str, hub: &Hub) -> Result<(), ControllerError> {
    let named = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    let account = ServiceAccount {
        metadata: named("default"),
        ..ServiceAccount::default()
    };
    let created = hub.api(namespace).create(&PostParams::default(), &account).await;
    created
        .unless_there()
        .during(|| format!("create the default service account of {namespace}"))?;
    let certificate = ConfigMap {
        metadata: named("kube-root-ca.crt"),
        data: Some([("ca.crt".to_owned(), hub.config.ca_certificate.clone())].into()),
        ..ConfigMap::default()
    };
    let created = hub
        .api(namespace)
        .create(&PostParams::default(), &certificate)
        .await;
    created
        .unless_there()
        .during(|| format!("create kube-root-ca.crt of {namespace}"))
        .map(drop)
}

/// Deletes the content of the namespace; returns true when nothing was left. Deletes Events last,
/// since deletions create Events.
async fn empty(namespace: &str, client: &Client) -> Result<bool, ControllerError> {
    let mut was_empty = true;
    for resource in contents() {
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        let listed = api.list_metadata(&ListParams::default()).await;
        let listed = listed.during(|| format!("list {} of namespace {namespace}", resource.plural))?;
        was_empty &= listed.items.is_empty();
        let staying = |object: &PartialObjectMeta<_>| object.metadata.deletion_timestamp.is_none();
        if listed.iter().any(staying) {
            let deleted = api
                .delete_collection(&DeleteParams::background(), &ListParams::default())
                .await;
            deleted.during(|| format!("delete the {} of namespace {namespace}", resource.plural))?;
        }
    }
    Ok(was_empty)
}

/// Returns every namespaced kind that the API server stores, owners before their dependents.
fn contents() -> Vec<ApiResource> {
    use k8s_openapi::api::{apps, batch, coordination, core, discovery, policy, rbac};
    vec![
        ApiResource::erase::<apps::v1::StatefulSet>(&()),
        ApiResource::erase::<apps::v1::Deployment>(&()),
        ApiResource::erase::<apps::v1::ReplicaSet>(&()),
        ApiResource::erase::<batch::v1::Job>(&()),
        ApiResource::erase::<policy::v1::PodDisruptionBudget>(&()),
        ApiResource::erase::<core::v1::Pod>(&()),
        ApiResource::erase::<core::v1::Service>(&()),
        ApiResource::erase::<core::v1::Endpoints>(&()),
        ApiResource::erase::<discovery::v1::EndpointSlice>(&()),
        ApiResource::erase::<apps::v1::ControllerRevision>(&()),
        ApiResource::erase::<core::v1::PersistentVolumeClaim>(&()),
        ApiResource::erase::<core::v1::ConfigMap>(&()),
        ApiResource::erase::<core::v1::Secret>(&()),
        ApiResource::erase::<core::v1::ServiceAccount>(&()),
        ApiResource::erase::<rbac::v1::RoleBinding>(&()),
        ApiResource::erase::<rbac::v1::Role>(&()),
        ApiResource::erase::<coordination::v1::Lease>(&()),
        ApiResource::erase::<core::v1::Event>(&()),
    ]
}

async fn finalize(namespace: &Namespace, client: &Client) -> Result<(), ControllerError> {
    let name = namespace.name_any();
    let mut finalized = namespace.clone();
    let finalizers = finalized
        .spec
        .get_or_insert_default()
        .finalizers
        .get_or_insert_default();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    let api = Api::<Namespace>::all(client.clone());
    let done: kube::Result<Namespace> = api
        .replace_subresource("finalize", &name, &PostParams::default(), &finalized)
        .await;
    done.unless_gone()
        .during(|| format!("finalize namespace {name}"))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_emptied_of_every_kind_that_is_served() {
        let emptied: Vec<String> = contents().into_iter().map(|resource| resource.plural).collect();
        for plural in crate::api::namespaced_plurals() {
            assert!(emptied.iter().any(|found| found == plural), "{plural}");
        }
    }
}
