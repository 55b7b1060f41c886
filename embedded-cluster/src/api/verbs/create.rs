//! `create`.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::apply::manager_of;
use super::read::answer_stored;
use crate::api::content::{Accept, warn};
use crate::api::intake::intake;
use crate::api::kinds::ResourceKind;
use crate::api::patch::track_create;
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::ApiError;
use crate::api::store::{CommitError, Stored};
use crate::api::{kinds, object, strategy};

/// Letters of generated name suffixes: no vowels and no digits that look like them, as in
/// Kubernetes.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Length of a generated name's suffix.
const SUFFIX_LENGTH: usize = 5;

/// Handles `POST …`.
pub(crate) fn create(server: &ApiServer, ctx: &RequestContext, body: Value) -> Result<Response, ApiError> {
    let accept = Accept::parse(&ctx.headers)?;
    let mut taken = intake(ctx, body)?;
    if !ctx.internal && object::list(&taken.object, &["metadata", "managedFields"]).is_empty() {
        // The author also owns the fields that are filled in.
        let mut filled = taken.object.clone();
        (ctx.kind.behaviour.defaults)(&mut filled);
        track_create(&mut filled, &manager_of(ctx));
        let managers = filled["metadata"]["managedFields"].take();
        taken.object["metadata"]["managedFields"] = managers;
    }
    let stored = create_object(
        server,
        ctx.kind,
        &ctx.namespace,
        taken.object,
        ctx.options.dry_run()?,
    )?;
    let mut response = answer_stored(StatusCode::CREATED, ctx, accept, &stored);
    for warning in &taken.warnings {
        warn(&mut response, warning);
    }
    Ok(response)
}

/// Creates an object from a parsed body: names, defaults, validation, storage.
pub(crate) fn create_object(
    server: &ApiServer,
    kind: &'static ResourceKind,
    namespace: &str,
    mut object: Value,
    dry_run: bool,
) -> Result<Arc<Stored>, ApiError> {
    if object
        .pointer("/metadata/resourceVersion")
        .is_some_and(|rv| rv != "")
    {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    prepare_metadata(kind, namespace, &mut object)?;
    check_namespace(server, kind, &object)?;
    let _allocation = server.allocation(kind);
    strategy::prepare_create(server, kind, &mut object)?;
    if dry_run {
        if server.store.get(kind, namespace, object::name(&object)).is_some() {
            return Err(ApiError::already_exists(kind, object::name(&object)));
        }
        return Ok(Arc::new(Stored::unsaved(object)));
    }
    let name = object::name(&object).to_owned();
    let stored = server.store.create(kind, object).map_err(|error| match error {
        CommitError::Exists | CommitError::Missing | CommitError::Stale => {
            ApiError::already_exists(kind, &name)
        }
        CommitError::Full => ApiError::store_full(),
    })?;
    (kind.behaviour.created)(server, &name);
    Ok(stored)
}

fn prepare_metadata(kind: &ResourceKind, namespace: &str, object: &mut Value) -> Result<(), ApiError> {
    let given = object::namespace(object).to_owned();
    if kind.namespaced && !given.is_empty() && given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let meta = object::meta_mut(object);
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        meta.shift_remove(key);
    }
    meta.shift_remove("resourceVersion");
    meta.shift_remove("selfLink");
    if kind.namespaced {
        meta.insert("namespace".to_owned(), json!(namespace));
    } else {
        meta.shift_remove("namespace");
    }
    let base = meta
        .get("generateName")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if meta
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .is_empty()
        && !base.is_empty()
    {
        meta.insert("name".to_owned(), json!(format!("{base}{}", random_suffix())));
    }
    meta.insert("uid".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    meta.insert("creationTimestamp".to_owned(), json!(object::now()));
    if kind.generation {
        meta.insert("generation".to_owned(), json!(1));
    }
    Ok(())
}

/// Returns five random letters, which no other object is likely to have.
pub(crate) fn random_suffix() -> String {
    let random = uuid::Uuid::new_v4();
    let letter = |byte: &u8| char::from(SUFFIX_LETTERS[usize::from(*byte) % SUFFIX_LETTERS.len()]);
    random.as_bytes().iter().take(SUFFIX_LENGTH).map(letter).collect()
}

fn check_namespace(server: &ApiServer, kind: &ResourceKind, object: &Value) -> Result<(), ApiError> {
    if !kind.namespaced {
        return Ok(());
    }
    let namespaces = kinds::find("", "v1", "namespaces").expect("namespaces are in the table");
    let name = object::namespace(object);
    let found = server
        .store
        .get(namespaces, "", name)
        .ok_or_else(|| ApiError::not_found(namespaces, name))?;
    if !object::is_terminating(&found.value) {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let mut error = ApiError::forbidden(kind, object::name(object), &why);
    if let Some(details) = &mut error.details {
        details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {name} is being terminated"),
            "field": "metadata.namespace",
        }]);
    }
    Err(error)
}

/// Creates the service account that every namespace has. In Kubernetes a controller does this some
/// time later. Here a new namespace can be used at once, since pods without their service account
/// are refused.
pub(crate) fn create_default_service_account(server: &ApiServer, namespace: &str) {
    let accounts = kinds::find("", "v1", "serviceaccounts").expect("service accounts are in the table");
    let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}});
    if let Err(error) = create_object(server, accounts, namespace, account, false) {
        tracing::warn!(namespace, %error, "default service account not created");
    }
}
