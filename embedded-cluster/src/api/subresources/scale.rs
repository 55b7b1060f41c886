//! `scale` of StatefulSets, as `autoscaling/v1 Scale`.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::api::content::{Accept, media_type, respond};
use crate::api::object::{self, at, text};
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::{ApiError, FieldError};
use crate::api::verbs::patch::Patch;
use crate::api::verbs::{read, update::change};

/// Handles `GET …/scale`.
pub(crate) fn get(server: &ApiServer, ctx: &RequestContext) -> Result<Response, ApiError> {
    let stored = read::existing(&server.store, ctx)?;
    answer(ctx, &stored.value)
}

/// Handles `PUT …/scale`.
pub(crate) fn update(server: &ApiServer, ctx: &RequestContext, body: &Value) -> Result<Response, ApiError> {
    let stored = change(server, ctx, |old| scaled(ctx, old, body))?;
    answer(ctx, &stored.value)
}

/// Handles `PATCH …/scale`.
pub(crate) fn patch(server: &ApiServer, ctx: &RequestContext, body: &[u8]) -> Result<Response, ApiError> {
    let patch = Patch::parse(media_type(&ctx.headers), body)?;
    let stored = change(server, ctx, |old| scaled(ctx, old, &patch.onto(scale_of(old))?))?;
    answer(ctx, &stored.value)
}

fn answer(ctx: &RequestContext, object: &Value) -> Result<Response, ApiError> {
    Ok(respond(
        StatusCode::OK,
        Accept::parse(&ctx.headers)?.yaml,
        &scale_of(object),
    ))
}

fn scaled(ctx: &RequestContext, old: &Value, scale: &Value) -> Result<Value, ApiError> {
    if scale.get("kind").is_some_and(|kind| kind != "Scale") {
        return Err(ApiError::bad_request(
            "the object provided is unrecognized (must be of type Scale)",
        ));
    }
    let replicas = at(scale, &["spec", "replicas"]).cloned().unwrap_or(json!(0));
    let count = replicas
        .as_i64()
        .filter(|n| i32::try_from(*n).is_ok())
        .ok_or_else(|| {
            ApiError::bad_request(format!(
                "spec.replicas: Invalid value: {replicas}: must be an integer"
            ))
        })?;
    if count < 0 {
        let error = FieldError::invalid("spec.replicas", count, "must be greater than or equal to 0");
        return Err(ApiError::invalid(ctx.kind, &ctx.name, &[error]));
    }
    let mut new = old.clone();
    let meta = object::meta_mut(&mut new);
    match text(scale, &["metadata", "resourceVersion"]) {
        "" => drop(meta.shift_remove("resourceVersion")),
        version => drop(meta.insert("resourceVersion".to_owned(), json!(version))),
    }
    new["spec"]["replicas"] = json!(count);
    Ok(new)
}

fn scale_of(object: &Value) -> Value {
    let meta = &object["metadata"];
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
            "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": {"replicas": at(object, &["spec", "replicas"]).cloned().unwrap_or(json!(1))},
        "status": {
            "replicas": at(object, &["status", "replicas"]).cloned().unwrap_or(json!(0)),
            "selector": selector_text(&object["spec"]["selector"]),
        },
    })
}

/// Formats a label selector as a query.
pub(crate) fn selector_text(selector: &Value) -> String {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let mut parts: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    parts.sort();
    for expression in object::list(selector, &["matchExpressions"]) {
        let values: Vec<&str> = object::list(expression, &["values"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let key = text(expression, &["key"]);
        parts.push(match text(expression, &["operator"]) {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.join(",")
}
