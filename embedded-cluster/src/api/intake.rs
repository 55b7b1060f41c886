//! The first checks of an object that a client sends: its kind, its types and its unknown fields
//! (`fieldValidation`).

use serde_json::{Value, json};

use super::request::RequestContext;
use super::status::ApiError;
use super::typed::unknown_fields;
use super::{events, object};

/// The deepest nesting that an object may have. Everything that walks objects is recursive.
pub(crate) const MAX_DEPTH: usize = 100;

/// A checked object, in its stored form.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) object: Value,
    /// Warnings of `fieldValidation=Warn`, the default.
    pub(crate) warnings: Vec<String>,
}

/// Checks and converts the object of a create or update request.
pub(crate) fn intake(ctx: &RequestContext, mut body: Value) -> Result<Taken, ApiError> {
    let kind = ctx.kind;
    let expected = (kind.api_version(), kind.kind);
    let given = (text(&body, "apiVersion"), text(&body, "kind"));
    if !body.is_object() {
        return Err(ApiError::bad_request(
            "the object provided is unrecognized: the body must be an object",
        ));
    }
    if object::is_deeper_than(&body, MAX_DEPTH) {
        return Err(ApiError::bad_request(format!(
            "the object provided is nested too deeply: at most {MAX_DEPTH} levels are accepted"
        )));
    }
    if !given.0.is_empty() || !given.1.is_empty() {
        if given != (&expected.0, expected.1) {
            return Err(ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): got {}, ResourceKind={}",
                kind.kind, given.0, given.1
            )));
        }
    } else {
        body["apiVersion"] = json!(expected.0);
        body["kind"] = json!(expected.1);
    }
    let object = (kind.typed)(&body).map_err(|error| {
        ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {error}",
            kind.kind, kind.version, kind.kind
        ))
    })?;
    let warnings = check_unknown(ctx, &body, &object)?;
    Ok(Taken {
        object: events::to_stored(kind, object),
        warnings,
    })
}

fn check_unknown(ctx: &RequestContext, given: &Value, kept: &Value) -> Result<Vec<String>, ApiError> {
    let mode = ctx.options.get("fieldValidation");
    let unknown: Vec<String> = unknown_fields(given, kept)
        .into_iter()
        .map(|path| format!("unknown field {path:?}"))
        .collect();
    match mode {
        "Ignore" => Ok(Vec::new()),
        "" | "Warn" => Ok(unknown),
        "Strict" if unknown.is_empty() => Ok(Vec::new()),
        "Strict" => Err(ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
            ctx.kind.kind,
            ctx.kind.version,
            ctx.kind.kind,
            unknown.join(", ")
        ))),
        other => Err(ApiError::bad_request(format!(
            "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
        ))),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
