//! `serviceaccounts/token`: a token that names its service account. It opens nothing here.

use axum::response::Response;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::api::content::respond;
use crate::api::object::{self, at};
use crate::api::request::Context;
use crate::api::server::ApiServer;
use crate::api::status::ApiError;
use crate::api::verbs::read;

/// Life of a token whose request names none, in seconds.
const DEFAULT_SECONDS: i64 = 3600;

/// Shortest and longest life that may be asked for, in seconds (`expirationSeconds` in the API reference).
const SECONDS: std::ops::RangeInclusive<i64> = 600..=1 << 32;

/// `POST …/serviceaccounts/NAME/token`.
pub(super) fn create(server: &ApiServer, ctx: &Context, body: &Value) -> Result<Response, ApiError> {
    let account = read::existing(&server.store, ctx)?;
    if !body.is_object()
        || body
            .get("spec")
            .is_some_and(|spec| !spec.is_object() && !spec.is_null())
    {
        return Err(ApiError::bad_request(
            "the object provided is unrecognized (must be of type TokenRequest)",
        ));
    }
    let seconds = at(body, &["spec", "expirationSeconds"])
        .and_then(Value::as_i64)
        .unwrap_or(DEFAULT_SECONDS);
    if !SECONDS.contains(&seconds) {
        return Err(ApiError::bad_request(format!(
            "spec.expirationSeconds: Invalid value: {seconds}: may not specify a duration less than 10 minutes or larger than 2^32 seconds"
        )));
    }
    let expires = Timestamp::now() + SignedDuration::from_secs(seconds);
    let mut answer = body.clone();
    answer["kind"] = json!("TokenRequest");
    answer["apiVersion"] = json!("authentication.k8s.io/v1");
    answer["metadata"] =
        json!({"name": ctx.name, "namespace": ctx.namespace, "creationTimestamp": object::now()});
    answer["spec"]["expirationSeconds"] = json!(seconds);
    answer["status"] = json!({
        "token": format!("embedded:{}:{}", object::uid(&account.value), uuid::Uuid::new_v4()),
        "expirationTimestamp": object::timestamp(expires),
    });
    Ok(respond(StatusCode::CREATED, false, &answer))
}
