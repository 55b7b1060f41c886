//! `namespaces/finalize`: removes a namespace's finalizer once the namespace is empty.

use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use crate::api::content::Accept;
use crate::api::intake::intake;
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::ApiError;
use crate::api::verbs::{read::answer_stored, update::change};

/// Handles `PUT /api/v1/namespaces/NAME/finalize`.
pub(crate) fn update(server: &ApiServer, ctx: &RequestContext, body: Value) -> Result<Response, ApiError> {
    let accept = Accept::parse(&ctx.headers)?;
    let given = intake(ctx, body)?.object;
    let stored = change(server, ctx, |old| {
        let mut new = old.clone();
        new["metadata"]["resourceVersion"] = given["metadata"]["resourceVersion"].clone();
        new["spec"] = given["spec"].clone();
        Ok(new)
    })?;
    Ok(answer_stored(StatusCode::OK, ctx, accept, &stored))
}
