//! Requests about single objects.

use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Client, ResourceExt};

use super::error::ReleaseError;
use super::object::Object;

/// Helm 4's name for itself in `metadata.managedFields`.
const FIELD_MANAGER: &str = "helm";

/// How to reach the API of an object in `namespace`.
pub(super) fn api(client: &Client, namespace: &str, object: &Object) -> Api<DynamicObject> {
    if object.is_namespaced() {
        let namespace = object.content.namespace().unwrap_or_else(|| namespace.to_owned());
        Api::namespaced_with(client.clone(), &namespace, object.resource())
    } else {
        Api::all_with(client.clone(), object.resource())
    }
}

/// Creates the object, or changes it to what it says now.
pub(super) async fn apply(client: &Client, namespace: &str, object: &Object) -> Result<(), ReleaseError> {
    let (api, params) = (api(client, namespace, object), PatchParams::apply(FIELD_MANAGER));
    let patched = api
        .patch(object.name(), &params, &Patch::Apply(&object.content))
        .await;
    patched.map(drop).map_err(|source| error("apply", object, source))
}

/// Deletes the object and what it owns. That it is gone already is success.
pub(super) async fn delete(client: &Client, namespace: &str, object: &Object) -> Result<(), ReleaseError> {
    let deleted = api(client, namespace, object)
        .delete(object.name(), &DeleteParams::background())
        .await;
    match deleted {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(error("delete", object, source)),
    }
}

/// Refuses an object that exists: Helm does not adopt what it did not create.
pub(super) async fn refuse_existing(
    client: &Client,
    namespace: &str,
    object: &Object,
) -> Result<(), ReleaseError> {
    let found = api(client, namespace, object).get_opt(object.name()).await;
    match found.map_err(|source| error("read", object, source))? {
        None => Ok(()),
        Some(_) => Err(ReleaseError::Exists {
            kind: object.kind().to_owned(),
            name: object.name().to_owned(),
        }),
    }
}

/// The error of a request about `object`.
pub(super) fn error(verb: &'static str, object: &Object, source: kube::Error) -> ReleaseError {
    let (kind, name) = (object.kind().to_owned(), object.name().to_owned());
    ReleaseError::Api {
        verb,
        kind,
        name,
        source: Box::new(source),
    }
}
