//! Deletion of exactly one namespace, and never of its successor.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

/// Deletes the namespace with the UID of `found`, not a later one of the same name. A namespace
/// that is already gone is a success.
///
/// # Errors
/// When the API server refuses.
pub async fn delete_exactly(namespaces: &Api<Namespace>, found: &Namespace) -> Result<(), kube::Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: found.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    let name = found.metadata.name.as_deref().unwrap_or_default();
    match namespaces.delete(name, &params).await {
        Ok(_) => Ok(()),
        // 409: the name belongs to a later namespace, or this one is already terminating.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}
