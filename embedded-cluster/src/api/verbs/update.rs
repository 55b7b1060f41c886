//! `update`, and the one path by which any request changes an existing object.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::apply::{APPLY, manager_of};
use super::delete;
use super::read::{answer_stored, existing};
use crate::api::content::{Accept, media_type, warn};
use crate::api::intake::intake;
use crate::api::patch::track_update;
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::ApiError;
use crate::api::store::{CommitError, Stored};
use crate::api::{object, strategy};

/// Handles `PUT …/NAME` and `PUT …/NAME/status`.
pub(crate) fn update(server: &ApiServer, ctx: &RequestContext, body: Value) -> Result<Response, ApiError> {
    let accept = Accept::parse(&ctx.headers)?;
    let taken = intake(ctx, body)?;
    let given = object::name(&taken.object);
    if given != ctx.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({})",
            ctx.name
        )));
    }
    let stored = change(server, ctx, |_| Ok(taken.object.clone()))?;
    let mut response = answer_stored(StatusCode::OK, ctx, accept, &stored);
    for warning in &taken.warnings {
        warn(&mut response, warning);
    }
    Ok(response)
}

/// Replaces the object that the request names with the result of `edit`. If another writer was
/// faster, `edit` runs again, unless its result names a resourceVersion.
pub(crate) fn change(
    server: &ApiServer,
    ctx: &RequestContext,
    mut edit: impl FnMut(&Value) -> Result<Value, ApiError>,
) -> Result<Arc<Stored>, ApiError> {
    let dry_run = ctx.options.dry_run()?;
    loop {
        let old = existing(&server.store, ctx)?;
        let mut new = edit(&old.value)?;
        check_version(ctx, &old, &new)?;
        prepare_metadata(ctx, &old.value, &mut new)?;
        let _allocation = server.allocation(ctx.kind);
        strategy::prepare_update(server, ctx, &old.value, &mut new)?;
        if media_type(&ctx.headers) != APPLY {
            track_update(
                &old.value,
                &mut new,
                &manager_of(ctx),
                &ctx.subresource,
                !ctx.internal,
            );
        }
        if dry_run {
            return Ok(Arc::new(Stored::unsaved(new)));
        }
        // No visible change: nothing is written and no watcher is woken.
        if old.value == new {
            return Ok(old);
        }
        let written = if delete::is_due(&old.value, &new) {
            let last = server.store.delete(ctx.kind, old.revision, &new);
            last.map(|value| Arc::new(Stored::unsaved(value)))
        } else {
            server.store.update(ctx.kind, old.revision, new)
        };
        match written {
            Ok(stored) => return Ok(stored),
            Err(CommitError::Stale) => {}
            Err(CommitError::Full) => return Err(ApiError::store_full()),
            Err(CommitError::Missing | CommitError::Exists) => {
                return Err(ApiError::not_found(ctx.kind, &ctx.name));
            }
        }
    }
}

fn check_version(ctx: &RequestContext, old: &Stored, new: &Value) -> Result<(), ApiError> {
    let revision = object::text(new, &["metadata", "resourceVersion"]);
    if !revision.is_empty() && revision != old.revision.to_string() {
        return Err(ApiError::stale(ctx.kind, &ctx.name));
    }
    let (had, has) = (object::uid(&old.value), object::uid(new));
    if !has.is_empty() && has != had {
        return Err(ApiError::conflict(
            ctx.kind,
            &ctx.name,
            &format!("Precondition failed: UID in precondition: {has}, UID in object meta: {had}"),
        ));
    }
    Ok(())
}

/// Restores metadata that a client cannot change: identity and the progress of a deletion.
fn prepare_metadata(ctx: &RequestContext, old: &Value, new: &mut Value) -> Result<(), ApiError> {
    if object::name(new) != ctx.name && !object::name(new).is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            object::name(new),
            ctx.name
        )));
    }
    if !object::namespace(new).is_empty() && object::namespace(new) != ctx.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let nothing = serde_json::Map::new();
    let old_meta = old["metadata"].as_object().unwrap_or(&nothing);
    let meta = object::meta_mut(new);
    let kept = [
        "name",
        "generateName",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ];
    for key in kept {
        match old_meta.get(key) {
            Some(value) => drop(meta.insert(key.to_owned(), value.clone())),
            None => drop(meta.shift_remove(key)),
        }
    }
    if !meta.contains_key("managedFields")
        && let Some(fields) = old_meta.get("managedFields")
    {
        meta.insert("managedFields".to_owned(), fields.clone());
    }
    if meta.get("managedFields").is_some_and(|f| *f == json!([])) {
        meta.shift_remove("managedFields");
    }
    Ok(())
}
