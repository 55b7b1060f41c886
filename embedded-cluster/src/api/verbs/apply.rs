//! `patch` of type apply: server-side apply, which creates the object when it does not exist.

use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::create::create_object;
use super::read::answer_stored;
use super::update::change;
use crate::api::content::{Accept, warn};
use crate::api::events;
use crate::api::intake::intake;
use crate::api::object;
use crate::api::patch::{Applier, ApplyConflict, apply as apply_onto};
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::{ApiError, FieldError, FieldProblem};

/// The content type of an applied configuration, which is YAML or (as YAML is a superset) JSON.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// Handles `PATCH …/NAME` with an applied configuration.
pub(crate) fn apply(server: &ApiServer, ctx: &RequestContext, body: &[u8]) -> Result<Response, ApiError> {
    let accept = Accept::parse(&ctx.headers)?;
    let config = configuration(ctx, body)?;
    let manager = ctx.options.get("fieldManager");
    if manager.is_empty() {
        return Err(no_manager());
    }
    let api_version = ctx.kind.api_version();
    let applier = Applier {
        manager,
        api_version: &api_version,
        subresource: &ctx.subresource,
        force: ctx.options.flag("force"),
    };
    // The configuration is checked alone, so that its unknown fields are reported whatever the
    // object has.
    let warnings = intake(ctx, config.clone())?.warnings;
    let exists = server.store.get(ctx.kind, &ctx.namespace, &ctx.name).is_some();
    let (code, stored) = if exists || !ctx.subresource.is_empty() {
        let stored = change(server, ctx, |old| merged(ctx, old, &config, &applier))?;
        (StatusCode::OK, stored)
    } else {
        let mut object = merged(ctx, &json!({}), &config, &applier)?;
        object["metadata"]["name"] = json!(ctx.name);
        let dry_run = ctx.options.dry_run()?;
        (
            StatusCode::CREATED,
            create_object(server, ctx.kind, &ctx.namespace, object, dry_run)?,
        )
    };
    let mut response = answer_stored(code, ctx, accept, &stored);
    for warning in &warnings {
        warn(&mut response, warning);
    }
    Ok(response)
}

/// Returns the author of a plain change: the `fieldManager` parameter, or the client program's
/// name.
pub(crate) fn manager_of(ctx: &RequestContext) -> String {
    let given = ctx.options.get("fieldManager");
    if given.is_empty() {
        user_agent(&ctx.headers)
    } else {
        given.to_owned()
    }
}

fn user_agent(headers: &HeaderMap) -> String {
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match agent.split('/').next().unwrap_or_default() {
        "" => "unknown".to_owned(),
        name => name.to_owned(),
    }
}

fn configuration(ctx: &RequestContext, body: &[u8]) -> Result<Value, ApiError> {
    let config: Value = serde_yaml::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
    if object::at(&config, &["metadata", "managedFields"]).is_some_and(|fields| !fields.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let name = object::name(&config);
    if !name.is_empty() && name != ctx.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            ctx.name
        )));
    }
    Ok(config)
}

fn merged(
    ctx: &RequestContext,
    live: &Value,
    config: &Value,
    applier: &Applier<'_>,
) -> Result<Value, ApiError> {
    let served = if live.get("kind").is_some() {
        events::to_served(ctx.kind, live.clone())
    } else {
        live.clone()
    };
    let mut config = without_nulls(config);
    let revision = object::meta_mut(&mut config).shift_remove("resourceVersion");
    let mut merged = apply_onto(&served, &config, applier).map_err(|conflicts| conflict(&conflicts))?;
    let meta = object::meta_mut(&mut merged);
    meta.shift_remove("resourceVersion");
    if let Some(revision) = revision {
        meta.insert("resourceVersion".to_owned(), revision);
    }
    Ok(intake(ctx, merged)?.object)
}

/// Removes `null` values, which mean nothing in an applied configuration.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k.clone(), without_nulls(v)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

fn no_manager() -> ApiError {
    let error = FieldError {
        field: "fieldManager".to_owned(),
        problem: FieldProblem::Required("is required for apply patch".to_owned()),
    };
    ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "Invalid",
        format!("PatchOptions.meta.k8s.io \"\" is invalid: {error}"),
    )
}

fn conflict(conflicts: &[ApplyConflict]) -> ApiError {
    let with = |c: &ApplyConflict| format!("conflict with {:?} using {}", c.manager, c.api_version);
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|c| json!({"reason": "FieldManagerConflict", "message": with(c), "field": c.field}))
        .collect();
    let message = match conflicts {
        [only] => format!("Apply failed with 1 conflict: {}: {}", with(only), only.field),
        _ => {
            let lines: Vec<String> = conflicts
                .iter()
                .map(|c| format!("{}: {}", with(c), c.field))
                .collect();
            format!(
                "Apply failed with {} conflicts: {}",
                conflicts.len(),
                lines.join("\n")
            )
        }
    };
    ApiError {
        details: Some(json!({"causes": causes})),
        ..ApiError::new(StatusCode::CONFLICT, "Conflict", message)
    }
}
