//! Reviews: a client asks who it is and what it may do.

use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::auth::Identity;
use super::content::{Accept, decode, respond};
use super::kinds::VirtualKind;
use super::object::{at, text};
use super::status::ApiError;

/// Answers the creation of a review.
pub(crate) fn answer(
    parts: &Parts,
    kind: &VirtualKind,
    identity: &Identity,
    body: &[u8],
) -> Result<Response, ApiError> {
    if parts.method != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let accept = Accept::parse(&parts.headers)?;
    let review = decode(&parts.headers, body)?;
    let api_version = format!("{}/{}", kind.group, kind.version);
    let mut answer = json!({"kind": kind.kind, "apiVersion": api_version, "metadata": {}});
    if let Some(spec) = review.get("spec") {
        answer["spec"] = spec.clone();
    }
    answer["status"] = match kind.kind {
        "SelfSubjectAccessReview" => access(identity, &review),
        "SelfSubjectRulesReview" => rules(),
        _ => json!({"userInfo": {"username": identity.user, "groups": identity.groups}}),
    };
    Ok(respond(StatusCode::CREATED, accept.yaml, &answer))
}

fn access(identity: &Identity, review: &Value) -> Value {
    let Some(asked) = at(review, &["spec", "resourceAttributes"]) else {
        return json!({"allowed": true});
    };
    let resource = match text(asked, &["subresource"]) {
        "" => text(asked, &["resource"]).to_owned(),
        sub => format!("{}/{sub}", text(asked, &["resource"])),
    };
    let denied = identity.is_denied(
        text(asked, &["verb"]),
        text(asked, &["group"]),
        &resource,
        text(asked, &["namespace"]),
    );
    if denied {
        json!({"allowed": false, "denied": true})
    } else {
        json!({"allowed": true})
    }
}

/// Rules only add permissions, so a deny list cannot be told in them: the answer says that it is incomplete.
fn rules() -> Value {
    json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": true,
    })
}
