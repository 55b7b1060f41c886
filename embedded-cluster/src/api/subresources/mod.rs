//! Subresources other than `status`, one file each.

mod binding;
mod finalize;
mod scale;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::Method;
use http::request::Parts;

use super::request::Context;
use super::server::{ApiServer, read_body, read_json};
use super::status::ApiError;

/// Answers a request for the subresource that `ctx` names.
pub(crate) async fn dispatch(
    server: Arc<ApiServer>,
    ctx: Context,
    parts: Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let _ = &parts;
    match (ctx.subresource.as_str(), &ctx.method) {
        ("scale", &Method::GET) => scale::get(&server, &ctx),
        ("scale", &Method::PUT) => scale::update(&server, &ctx, &read_json(&ctx.headers, body).await?),
        ("scale", &Method::PATCH) => scale::patch(&server, &ctx, &read_body(body).await?),
        ("finalize", &Method::PUT) => finalize::update(&server, &ctx, &read_json(&ctx.headers, body).await?),
        ("binding", &Method::POST) => binding::create(&server, &ctx, &read_json(&ctx.headers, body).await?),
        _ => Err(ApiError::method_not_allowed()),
    }
}
