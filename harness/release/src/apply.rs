//! Requests about single objects.

use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Client, ResourceExt};

use super::error::ReleaseError;
use super::object::Object;

/// Helm 4's name for itself in `metadata.managedFields`.
const FIELD_MANAGER: &str = "helm";

/// The text of each optimistic-lock conflict in the API server (`registry.OptimisticLockErrorMsg`).
const LOST_RACE: &str = "the object has been modified";

/// Number of attempts of a request that loses races. The API server itself makes five tries per
/// attempt.
const ATTEMPTS: u32 = 5;

/// Returns the API of an object in `namespace`.
pub(super) fn api(client: &Client, namespace: &str, object: &Object) -> Api<DynamicObject> {
    if object.is_namespaced() {
        let namespace = object.content.namespace().unwrap_or_else(|| namespace.to_owned());
        Api::namespaced_with(client.clone(), &namespace, object.resource())
    } else {
        Api::all_with(client.clone(), object.resource())
    }
}

/// Creates or updates the object by server-side apply.
pub(super) async fn apply(client: &Client, namespace: &str, object: &Object) -> Result<(), ReleaseError> {
    let (api, params) = (api(client, namespace, object), PatchParams::apply(FIELD_MANAGER));
    let patch = Patch::Apply(&object.content);
    let patched = settled(|| api.patch(object.name(), &params, &patch)).await;
    patched.map(drop).map_err(|source| error("apply", object, source))
}

/// Retries a request that lost an optimistic-lock race and so changed nothing. A controller may
/// have changed the object, or another request a quota. A conflict over a field's owner is not a
/// race and is returned at once.
pub(super) async fn settled<T, F: Future<Output = Result<T, kube::Error>>>(
    request: impl Fn() -> F,
) -> Result<T, kube::Error> {
    for _ in 1..ATTEMPTS {
        match request().await {
            Err(kube::Error::Api(status)) if status.code == 409 && status.message.contains(LOST_RACE) => {}
            other => return other,
        }
    }
    request().await
}

/// Deletes the object and its dependents. An object that is already gone is a success.
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

/// Fails if the object exists: Helm does not adopt objects that it did not create.
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

/// Returns the error of a request about `object`.
pub(super) fn error(verb: &'static str, object: &Object, source: kube::Error) -> ReleaseError {
    let (kind, name) = (object.kind().to_owned(), object.name().to_owned());
    ReleaseError::Api {
        verb,
        kind,
        name,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Returns the number of requests, and true if the last succeeded. The first `times` requests
    /// are answered with this conflict.
    async fn sent(message: &str, times: u32) -> (u32, bool) {
        let count = AtomicU32::new(0);
        let answered = settled(|| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let status = kube::core::Status {
                code: 409,
                message: message.to_owned(),
                ..Default::default()
            };
            std::future::ready(if number < times {
                Err(kube::Error::Api(Box::new(status)))
            } else {
                Ok(())
            })
        });
        let succeeded = answered.await.is_ok();
        (count.into_inner(), succeeded)
    }

    #[tokio::test]
    async fn a_lost_race_is_run_again_and_a_conflict_over_a_field_is_not() {
        let race = "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified; please apply \
                    your changes to the latest version and try again";
        assert_eq!(sent(race, 2).await, (3, true));
        assert_eq!(sent(race, 100).await, (ATTEMPTS, false));
        let field = "Apply failed with 1 conflict: conflict with \"hpa\" using apps/v1: .spec.replicas";
        assert_eq!(sent(field, 100).await, (1, false));
    }
}
