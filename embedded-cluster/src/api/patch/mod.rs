//! Patches as functions: an object and a patch in, the patched object out.

mod apply;
mod fields;
mod schema;
mod strategic;

use http::StatusCode;
use serde_json::Value;

use super::status::ApiError;

pub(crate) use apply::{Applier, ApplyConflict, apply, track_update};
pub(crate) use strategic::strategic_patch_onto;

/// RFC 6902. A failing operation (a `test` among them) is 422, as in Kubernetes.
pub(crate) fn json_patch_onto(mut base: Value, patch: &json_patch::Patch) -> Result<Value, ApiError> {
    json_patch::patch(&mut base, patch).map_err(|error| {
        ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            format!("the server rejected our request due to an error in our request: {error}"),
        )
    })?;
    Ok(base)
}

/// RFC 7386.
pub(crate) fn merge_patch_onto(mut base: Value, patch: &Value) -> Value {
    json_patch::merge(&mut base, patch);
    base
}
