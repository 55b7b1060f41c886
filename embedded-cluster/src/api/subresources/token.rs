//! `serviceaccounts/token`: creates a token with which a service account can use the API.

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::authorize::user_of;
use crate::api::content::respond;
use crate::api::kinds;
use crate::api::object::{self, at, list, text};
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::service_account_token::ISSUER;
use crate::api::status::ApiError;
use crate::api::verbs::read;
use crate::seconds::bounded;

/// Default lifetime of a token, in seconds.
const DEFAULT_SECONDS: i64 = 3600;

/// Shortest and longest lifetime of a token, in seconds (`expirationSeconds` in the API reference).
const SECONDS: std::ops::RangeInclusive<i64> = 600..=1 << 32;

/// Returns name and UID of the pod to bind a token to. Kubernetes also binds to Secrets and nodes.
fn bound_pod(server: &ApiServer, ctx: &RequestContext, bound: &Value) -> Result<Value, ApiError> {
    let (kind, name) = (text(bound, &["kind"]), text(bound, &["name"]));
    if kind != "Pod" {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to an object of kind {kind:?}: not supported by the embedded cluster",
            ctx.name
        )));
    }
    let pods = kinds::find("", "v1", "pods").expect("pods are in the table");
    let pod = server
        .store
        .get(pods, &ctx.namespace, name)
        .ok_or_else(|| ApiError::not_found(pods, name))?;
    let (uid, given) = (object::uid(&pod.value), text(bound, &["uid"]));
    if !given.is_empty() && given != uid {
        let why = format!(
            "the UID in the bound object reference ({given}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(pods, name, &why));
    }
    Ok(json!({"name": name, "uid": uid}))
}

/// Handles `POST …/serviceaccounts/NAME/token`.
pub(super) fn create(server: &ApiServer, ctx: &RequestContext, body: &Value) -> Result<Response, ApiError> {
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
    let mut audiences = list(body, &["spec", "audiences"]).to_vec();
    if audiences.is_empty() {
        audiences.push(json!(ISSUER));
    }
    let now = Timestamp::now();
    let expires = now + bounded(seconds);
    let mut claims = json!({"iss": ISSUER, "sub": user_of(&account.value), "aud": audiences,
        "iat": now.as_second(), "nbf": now.as_second(), "exp": expires.as_second(), "jti": uuid::Uuid::new_v4().to_string(),
        "kubernetes.io": {"namespace": ctx.namespace,
            "serviceaccount": {"name": ctx.name, "uid": object::uid(&account.value)}}});
    if let Some(bound) = at(body, &["spec", "boundObjectRef"]).filter(|bound| !bound.is_null()) {
        claims["kubernetes.io"]["pod"] = bound_pod(server, ctx, bound)?;
    }
    let mut answer = body.clone();
    answer["spec"]["audiences"] = json!(audiences);
    answer["kind"] = json!("TokenRequest");
    answer["apiVersion"] = json!("authentication.k8s.io/v1");
    answer["metadata"] =
        json!({"name": ctx.name, "namespace": ctx.namespace, "creationTimestamp": object::now()});
    answer["spec"]["expirationSeconds"] = json!(seconds);
    answer["status"] = json!({
        "token": server.signing_key.sign(&claims),
        "expirationTimestamp": object::timestamp(expires),
    });
    Ok(respond(StatusCode::CREATED, false, &answer))
}
