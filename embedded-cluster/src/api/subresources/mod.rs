//! Subresources other than `status`, one file each.

mod binding;
mod channels;
mod eviction;
mod exec;
mod finalize;
mod log;
mod pod_target;
mod portforward;
mod scale;
mod token;

pub(crate) use scale::selector_text;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};

use super::request::RequestContext;
use super::server::{ApiServer, read_body, read_json};
use super::status::ApiError;

/// Answers a request for the subresource that `ctx` names.
pub(crate) async fn dispatch(
    server: Arc<ApiServer>,
    ctx: RequestContext,
    parts: Parts,
    body: Body,
) -> Result<Response, ApiError> {
    match (ctx.subresource.as_str(), &ctx.method) {
        ("scale", &Method::GET) => scale::get(&server, &ctx),
        ("scale", &Method::PUT) => scale::update(&server, &ctx, &read_json(&ctx.headers, body).await?),
        ("scale", &Method::PATCH) => scale::patch(&server, &ctx, &read_body(body).await?),
        ("finalize", &Method::PUT) => finalize::update(&server, &ctx, read_json(&ctx.headers, body).await?),
        ("binding", &Method::POST) => binding::create(&server, &ctx, &read_json(&ctx.headers, body).await?),
        ("eviction", &Method::POST) => {
            let body = read_json(&ctx.headers, body).await?;
            eviction::create(&server, &ctx, &body)
        }
        ("token", &Method::POST) => token::create(&server, &ctx, &read_json(&ctx.headers, body).await?),
        ("log", &Method::GET) => log::get(&server, &ctx).await,
        ("exec", &(Method::GET | Method::POST)) => exec::connect(&server, &ctx, parts).await,
        ("portforward", &(Method::GET | Method::POST)) => portforward::connect(&server, &ctx, parts).await,
        ("attach", &(Method::GET | Method::POST)) => Err(not_supported("pods/attach")),
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// Refuses an operation that Kubernetes supports and this cluster does not.
fn not_supported(what: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "NotImplemented",
        format!("not supported by the embedded cluster: {what}"),
    )
}
