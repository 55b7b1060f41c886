//! `patch`: parses the patch, applies it, and writes the result as an update.

use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use super::apply::{APPLY, apply};
use super::read::answer_stored;
use super::update::change;
use crate::api::content::{Accept, media_type, unsupported_media_type, warn};
use crate::api::events;
use crate::api::intake::intake;
use crate::api::patch::{json_patch_onto, merge_patch_onto, strategic_patch_onto};
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::ApiError;

/// Handles `PATCH …/NAME` and `PATCH …/NAME/status`.
pub(crate) fn patch(server: &ApiServer, ctx: &RequestContext, body: &[u8]) -> Result<Response, ApiError> {
    if media_type(&ctx.headers) == APPLY {
        return apply(server, ctx, body);
    }
    let accept = Accept::parse(&ctx.headers)?;
    let patch = Patch::parse(media_type(&ctx.headers), body)?;
    let mut warnings = Vec::new();
    let stored = change(server, ctx, |old| {
        let served = events::to_served(ctx.kind, old.clone());
        let taken = intake(ctx, patch.onto(served)?)?;
        warnings = taken.warnings;
        Ok(taken.object)
    })?;
    let mut response = answer_stored(StatusCode::OK, ctx, accept, &stored);
    for warning in &warnings {
        warn(&mut response, warning);
    }
    Ok(response)
}

/// A parsed patch.
pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    pub(crate) fn parse(media_type: &str, body: &[u8]) -> Result<Self, ApiError> {
        match media_type {
            "application/json-patch+json" => Ok(Self::Json(parse(body)?)),
            "application/merge-patch+json" => Ok(Self::Merge(parse_object(body)?)),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic(parse_object(body)?)),
            other => Err(unsupported_media_type(other)),
        }
    }

    /// Returns the patched object. A patch with a resourceVersion applies only to that version. Any
    /// other patch applies to the current version, so the old resourceVersion is removed first.
    pub(crate) fn onto(&self, mut base: Value) -> Result<Value, ApiError> {
        let version = crate::api::object::meta_mut(&mut base).shift_remove("resourceVersion");
        match self {
            Self::Json(patch) => {
                if let Some(version) = version {
                    base["metadata"]["resourceVersion"] = version;
                }
                json_patch_onto(base, patch)
            }
            Self::Merge(patch) => Ok(merge_patch_onto(base, patch)),
            Self::Strategic(patch) => strategic_patch_onto(base, patch),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
}

fn parse_object(body: &[u8]) -> Result<Value, ApiError> {
    let value: Value = parse(body)?;
    if value.is_object() {
        return Ok(value);
    }
    Err(ApiError::bad_request(
        "error decoding patch: a patch of this type must be an object",
    ))
}
