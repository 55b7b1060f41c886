//! `pods/eviction`: a deletion that the disruption budgets must allow.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::api::content::respond;
use crate::api::kinds;
use crate::api::object::{self, at, list, text};
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::ApiError;
use crate::api::store::{CommitError, Stored};
use crate::api::validate::selector_matches;
use crate::api::verbs::delete::{DeleteOptions, delete_object};
use crate::api::verbs::read;

/// Handles `POST …/pods/NAME/eviction`.
pub(super) fn create(server: &ApiServer, ctx: &RequestContext, body: &Value) -> Result<Response, ApiError> {
    let given = text(body, &["metadata", "name"]);
    if !given.is_empty() && given != ctx.name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let options = DeleteOptions::parse(ctx, body.get("deleteOptions").unwrap_or(&Value::Null))?;
    let pod = read::existing(&server.store, ctx)?;
    if !needs_no_budget(&pod.value) {
        take_from_budget(server, ctx, &pod.value, options.dry_run)?;
    }
    delete_object(server, ctx, &options)?;
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(respond(StatusCode::CREATED, false, &status))
}

/// Returns true for a pod that is not running, since its eviction disrupts nothing.
fn needs_no_budget(pod: &Value) -> bool {
    object::is_terminating(pod)
        || matches!(
            text(pod, &["status", "phase"]),
            "Succeeded" | "Failed" | "Pending"
        )
}

fn take_from_budget(
    server: &ApiServer,
    ctx: &RequestContext,
    pod: &Value,
    dry_run: bool,
) -> Result<(), ApiError> {
    let kind = kinds::find("policy", "v1", "poddisruptionbudgets").expect("budgets are in the table");
    loop {
        let labels = at(pod, &["metadata", "labels"])
            .cloned()
            .unwrap_or_else(|| json!({}));
        let (_, budgets) = server.store.list(kind, &ctx.namespace);
        let matching: Vec<Arc<Stored>> = budgets
            .into_iter()
            .filter(|budget| selector_matches(&budget.value["spec"]["selector"], &labels))
            .collect();
        let [budget] = matching.as_slice() else {
            if matching.is_empty() {
                return Ok(());
            }
            return Err(ApiError::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        };
        if unhealthy_and_expendable(pod, &budget.value) {
            return Ok(());
        }
        let after = taken(ctx, &budget.value)?;
        if dry_run {
            return Ok(());
        }
        match server.store.update(kind, budget.revision, after) {
            Ok(_) => return Ok(()),
            Err(CommitError::Stale | CommitError::Missing | CommitError::Exists) => {}
            Err(CommitError::Full) => return Err(ApiError::store_full()),
        }
    }
}

/// Returns true if `unhealthyPodEvictionPolicy` lets an unready pod go, as when enough others are
/// healthy.
fn unhealthy_and_expendable(pod: &Value, budget: &Value) -> bool {
    let ready = list(pod, &["status", "conditions"])
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let number = |field: &str| {
        at(budget, &["status", field])
            .and_then(Value::as_i64)
            .unwrap_or(0)
    };
    let always = text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
    let healthy = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    !ready && (always || healthy)
}

/// Returns the budget with one allowed disruption less.
fn taken(ctx: &RequestContext, budget: &Value) -> Result<Value, ApiError> {
    let number = |path: &[&str]| at(budget, path).and_then(Value::as_i64).unwrap_or(0);
    let name = object::name(budget);
    if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
        return Err(too_many(&format!(
            "The disruption budget {name} is still being processed by the server."
        )));
    }
    let allowed = number(&["status", "disruptionsAllowed"]);
    if allowed <= 0 {
        return Err(too_many(&format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number(&["status", "desiredHealthy"]),
            number(&["status", "currentHealthy"]),
        )));
    }
    let mut after = budget.clone();
    after["status"]["disruptionsAllowed"] = json!(allowed.saturating_sub(1));
    let disrupted = &mut after["status"]["disruptedPods"];
    if disrupted.is_null() {
        *disrupted = json!({});
    }
    disrupted[ctx.name.as_str()] = json!(object::now());
    Ok(after)
}

fn too_many(cause: &str) -> ApiError {
    ApiError {
        details: Some(json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]})),
        ..ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            "Cannot evict pod as it would violate the pod's disruption budget.",
        )
    }
}
