//! `delete` and `deletecollection`: at once, after a grace period, or after finalizers are removed.

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::read::{answer, existing, selector};
use crate::api::content::{Accept, respond};
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::ApiError;
use crate::api::store::{CommitError, Stored};
use crate::api::{events, object};
use crate::seconds::bounded;

/// A pod's grace period when neither it nor the request names one.
pub(crate) const DEFAULT_GRACE_SECONDS: i64 = 30;

/// Kinds that answer a deletion with the object instead of a `Status`.
const RETURNED: [&str; 5] = [
    "pods",
    "services",
    "persistentvolumeclaims",
    "persistentvolumes",
    "serviceaccounts",
];

/// Handles `DELETE …/NAME`.
pub(crate) fn delete(server: &ApiServer, ctx: &RequestContext, body: &Value) -> Result<Response, ApiError> {
    let accept = Accept::parse(&ctx.headers)?;
    let options = DeleteOptions::parse(ctx, body)?;
    match delete_object(server, ctx, &options)? {
        Outcome::Gone(last) if !RETURNED.contains(&ctx.kind.plural) => {
            let mut details = json!({"name": ctx.name, "kind": ctx.kind.plural, "uid": object::uid(&last)});
            if !ctx.kind.group.is_empty() {
                details["group"] = json!(ctx.kind.group);
            }
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
            });
            Ok(respond(StatusCode::OK, accept.yaml, &status))
        }
        Outcome::Gone(value) | Outcome::Pending(value) => Ok(answer(StatusCode::OK, ctx, accept, &value)),
    }
}

/// Handles `DELETE …` of a collection.
pub(crate) fn delete_collection(
    server: &ApiServer,
    mut ctx: RequestContext,
    body: &Value,
) -> Result<Response, ApiError> {
    let accept = Accept::parse(&ctx.headers)?;
    let options = DeleteOptions::parse(&ctx, body)?;
    let selector = selector(&ctx)?;
    let (revision, objects) = server.store.list(ctx.kind, &ctx.namespace);
    let mut items = Vec::new();
    for stored in objects
        .into_iter()
        .filter(|stored| selector.matches(&stored.value))
    {
        ctx.namespace = object::namespace(&stored.value).to_owned();
        ctx.name = object::name(&stored.value).to_owned();
        match delete_object(server, &ctx, &options) {
            Ok(_) => items.push(events::to_served(ctx.kind, stored.value.clone())),
            Err(error) if error.code == StatusCode::NOT_FOUND => {}
            Err(error) => return Err(error),
        }
    }
    let list = json!({
        "kind": ctx.kind.list_kind(),
        "apiVersion": ctx.kind.api_version(),
        "metadata": {"resourceVersion": revision.to_string()},
        "items": items,
    });
    Ok(respond(StatusCode::OK, accept.yaml, &list))
}

/// The result of a deletion.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The object is gone; this was its last state.
    Gone(Value),
    /// The object stays until its grace period is over or its finalizers are removed.
    Pending(Value),
}

/// Options of a deletion.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Parses the query and the `DeleteOptions` body. The body wins.
    pub(crate) fn parse(ctx: &RequestContext, body: &Value) -> Result<Self, ApiError> {
        if !body.is_null() && !body.is_object() {
            return Err(ApiError::bad_request(
                "the body of a delete must be DeleteOptions",
            ));
        }
        let grace = match body.get("gracePeriodSeconds").filter(|value| !value.is_null()) {
            Some(value) => Some(value.as_i64().ok_or_else(|| {
                ApiError::bad_request(format!(
                    "gracePeriodSeconds: Invalid value: {value}: must be an integer"
                ))
            })?),
            None => ctx.options.number("gracePeriodSeconds")?,
        };
        let given = object::text(body, &["propagationPolicy"]);
        let orphan = body.get("orphanDependents").and_then(Value::as_bool);
        let propagation = match (given, orphan) {
            ("", Some(true)) => "Orphan",
            ("", Some(false)) => "Background",
            ("", None) => ctx.options.get("propagationPolicy"),
            (given, _) => given,
        };
        if !matches!(propagation, "" | "Orphan" | "Background" | "Foreground") {
            return Err(ApiError::bad_request(format!(
                "propagationPolicy: Unsupported value: {propagation:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
            )));
        }
        Ok(Self {
            grace_seconds: grace,
            propagation: propagation.to_owned(),
            uid: object::text(body, &["preconditions", "uid"]).to_owned(),
            resource_version: object::text(body, &["preconditions", "resourceVersion"]).to_owned(),
            dry_run: ctx.options.dry_run()? || !object::list(body, &["dryRun"]).is_empty(),
        })
    }
}

/// Deletes the object that the request names, or starts its deletion.
pub(crate) fn delete_object(
    server: &ApiServer,
    ctx: &RequestContext,
    options: &DeleteOptions,
) -> Result<Outcome, ApiError> {
    if ctx.kind.behaviour.permanent.contains(&ctx.name.as_str()) {
        return Err(ApiError::forbidden(
            ctx.kind,
            &ctx.name,
            "this namespace may not be deleted",
        ));
    }
    loop {
        let old = existing(&server.store, ctx)?;
        check_preconditions(ctx, options, &old)?;
        let new = mark(ctx, options, &old.value);
        let gone = may_go(&new);
        if options.dry_run {
            return Ok(if gone {
                Outcome::Gone(new)
            } else {
                Outcome::Pending(new)
            });
        }
        let result = if gone {
            server
                .store
                .delete(ctx.kind, old.revision, &new)
                .map(Outcome::Gone)
        } else if new == old.value {
            return Ok(Outcome::Pending(new));
        } else {
            server
                .store
                .update(ctx.kind, old.revision, new)
                .map(|s| Outcome::Pending(s.value.clone()))
        };
        match result {
            Ok(outcome) => return Ok(outcome),
            Err(CommitError::Stale) => {}
            Err(CommitError::Full) => return Err(ApiError::store_full()),
            Err(CommitError::Exists | CommitError::Missing) => {
                return Err(ApiError::not_found(ctx.kind, &ctx.name));
            }
        }
    }
}

/// Returns true if an update has removed the last thing that kept a deleted object.
pub(crate) fn is_due(old: &Value, new: &Value) -> bool {
    let was_held =
        !object::finalizers(old).is_empty() || !object::list(old, &["spec", "finalizers"]).is_empty();
    object::is_terminating(new) && was_held && may_go(new)
}

fn check_preconditions(ctx: &RequestContext, options: &DeleteOptions, old: &Stored) -> Result<(), ApiError> {
    let uid = object::uid(&old.value);
    if !options.uid.is_empty() && options.uid != uid {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {uid}",
            options.uid
        );
        return Err(ApiError::conflict(ctx.kind, &ctx.name, &why));
    }
    if !options.resource_version.is_empty() && options.resource_version != old.revision.to_string() {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {}, ResourceVersion in object meta: {}",
            options.resource_version, old.revision
        );
        return Err(ApiError::conflict(ctx.kind, &ctx.name, &why));
    }
    Ok(())
}

/// Returns the object marked as being deleted.
fn mark(ctx: &RequestContext, options: &DeleteOptions, old: &Value) -> Value {
    let mut new = old.clone();
    let grace = grace_seconds(ctx, options, old);
    let already = object::is_terminating(old);
    let had_grace = object::at(old, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    set_propagation(&mut new, &options.propagation);
    let meta = object::meta_mut(&mut new);
    // A second deletion can only shorten the grace period.
    if !already || had_grace.is_some_and(|had| grace < had) {
        let when = Timestamp::now() + bounded(grace);
        meta.insert("deletionTimestamp".to_owned(), json!(object::timestamp(when)));
        meta.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    }
    if !already && let Some(generation) = meta.get("generation").and_then(Value::as_i64) {
        meta.insert("generation".to_owned(), json!(generation.saturating_add(1)));
    }
    (ctx.kind.behaviour.deletion_begins)(&mut new);
    new
}

/// Returns the grace period. Only pods that a node may be running are deleted gracefully.
fn grace_seconds(ctx: &RequestContext, options: &DeleteOptions, old: &Value) -> i64 {
    let finished = matches!(object::text(old, &["status", "phase"]), "Succeeded" | "Failed");
    if !ctx.kind.behaviour.graceful_deletion
        || object::text(old, &["spec", "nodeName"]).is_empty()
        || finished
    {
        return 0;
    }
    let own = object::at(old, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    // A negative period means one second, as in Kubernetes.
    match options.grace_seconds.or(own).unwrap_or(DEFAULT_GRACE_SECONDS) {
        ..0 => 1,
        seconds => seconds,
    }
}

fn set_propagation(new: &mut Value, propagation: &str) {
    let wanted = match propagation {
        "Orphan" => Some("orphan"),
        "Foreground" => Some("foregroundDeletion"),
        "Background" => None,
        _ => return,
    };
    let mut finalizers: Vec<String> = object::finalizers(new)
        .into_iter()
        .filter(|f| !matches!(*f, "orphan" | "foregroundDeletion"))
        .map(str::to_owned)
        .collect();
    finalizers.extend(wanted.map(str::to_owned));
    let meta = object::meta_mut(new);
    if finalizers.is_empty() {
        meta.shift_remove("finalizers");
    } else {
        meta.insert("finalizers".to_owned(), json!(finalizers));
    }
}

fn may_go(new: &Value) -> bool {
    let grace = object::at(new, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    let content_gone = object::list(new, &["spec", "finalizers"]).is_empty();
    object::finalizers(new).is_empty() && grace.unwrap_or(0) == 0 && content_gone
}
