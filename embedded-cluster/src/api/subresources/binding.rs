//! `pods/binding`: the scheduler's decision.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::api::content::respond;
use crate::api::object::{self, text};
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::{ApiError, FieldError};
use crate::api::verbs::update::change;

/// Handles `POST …/pods/NAME/binding`.
pub(crate) fn create(server: &ApiServer, ctx: &RequestContext, body: &Value) -> Result<Response, ApiError> {
    let node = text(body, &["target", "name"]).to_owned();
    if node.is_empty() {
        let error = FieldError::required("target.name", "");
        return Err(ApiError::invalid(ctx.kind, &ctx.name, &[error]));
    }
    let uid = text(body, &["metadata", "uid"]).to_owned();
    change(server, ctx, |old| bound(ctx, old, &node, &uid))?;
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(respond(StatusCode::CREATED, false, &status))
}

fn bound(ctx: &RequestContext, old: &Value, node: &str, uid: &str) -> Result<Value, ApiError> {
    let conflict = |why: &str| Err(ApiError::conflict(ctx.kind, &ctx.name, why));
    if !uid.is_empty() && uid != object::uid(old) {
        return conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            object::uid(old)
        ));
    }
    if object::is_terminating(old) {
        return conflict(&format!(
            "pod {} is being deleted, cannot be assigned to a host",
            ctx.name
        ));
    }
    let assigned = text(old, &["spec", "nodeName"]);
    if !assigned.is_empty() {
        return conflict(&format!(
            "pod {} is already assigned to node {assigned:?}",
            ctx.name
        ));
    }
    let mut new = old.clone();
    new["spec"]["nodeName"] = json!(node);
    set_condition(&mut new, "PodScheduled", "True");
    Ok(new)
}

/// Sets a condition of a pod. The time of the last transition stays when the status is unchanged.
fn set_condition(pod: &mut Value, condition_type: &str, status: &str) {
    let condition = json!({"type": condition_type, "status": status, "lastProbeTime": null,
        "lastTransitionTime": object::now()});
    let conditions = &mut object::child_mut(pod, "status")
        .entry("conditions")
        .or_insert_with(|| json!([]));
    let Some(list) = conditions.as_array_mut() else {
        return;
    };
    match list
        .iter_mut()
        .find(|existing| existing["type"] == condition_type)
    {
        Some(existing) if existing["status"] == status => {}
        Some(existing) => *existing = condition,
        None => list.push(condition),
    }
}
