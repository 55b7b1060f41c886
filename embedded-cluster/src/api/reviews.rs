//! Reviews: a client asks who it is and what it may do.

use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::authorize::{Action, Caller, rules_of};
use super::content::{Accept, decode, respond};
use super::kinds::VirtualKind;
use super::object::{at, list, text};
use super::server::ApiServer;
use super::status::ApiError;

/// Answers a request to create a review.
pub(crate) fn answer(
    server: &ApiServer,
    parts: &Parts,
    kind: &VirtualKind,
    caller: &Caller,
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
    answer["status"] = (kind.answer)(server, caller, &review);
    Ok(respond(StatusCode::CREATED, accept.yaml, &answer))
}

/// Returns the permissions of the user that the review names.
pub(crate) fn access_of_subject(server: &ApiServer, _: &Caller, review: &Value) -> Value {
    access(server, &subject(review), review)
}

/// Returns the caller's identity.
pub(crate) fn user(_: &ApiServer, caller: &Caller, _: &Value) -> Value {
    json!({"userInfo": {"username": caller.identity.user, "groups": caller.identity.groups}})
}

/// Returns the user that a review asks about.
fn subject(review: &Value) -> Caller {
    let groups = list(review, &["spec", "groups"]).iter().filter_map(Value::as_str);
    Caller::user(
        text(review, &["spec", "user"]),
        groups.map(str::to_owned).collect(),
    )
}

/// Returns the caller's permissions.
pub(crate) fn access(server: &ApiServer, caller: &Caller, review: &Value) -> Value {
    let Some(asked) = at(review, &["spec", "resourceAttributes"]) else {
        let path = text(review, &["spec", "nonResourceAttributes", "path"]);
        return json!({"allowed": server.allows_path(caller, path)});
    };
    let plural = text(asked, &["resource"]);
    let resource = match text(asked, &["subresource"]) {
        "" => plural.to_owned(),
        sub => format!("{plural}/{sub}"),
    };
    let action = Action {
        verb: text(asked, &["verb"]),
        group: text(asked, &["group"]),
        resource: &resource,
        namespace: text(asked, &["namespace"]),
        name: text(asked, &["name"]),
    };
    match (server.allows(caller, &action), caller.by_roles) {
        (true, _) => json!({"allowed": true}),
        (false, true) => json!({"allowed": false}),
        (false, false) => json!({"allowed": false, "denied": true}),
    }
}

/// Returns the caller's rules. For a caller with a deny list the answer is marked incomplete,
/// because rules only add permissions.
pub(crate) fn rules(server: &ApiServer, caller: &Caller, review: &Value) -> Value {
    let namespace = text(review, &["spec", "namespace"]);
    if caller.by_roles {
        let (resources, paths) = rules_of(server, caller, namespace);
        return json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    }
    json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": true,
    })
}
