//! `get` and `list`.

use std::sync::Arc;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use serde_json::{Value, json};

use crate::api::content::{Accept, Form, metadata_only, respond, respond_bytes};
use crate::api::request::{Options, RequestContext};
use crate::api::selector::Selector;
use crate::api::status::ApiError;
use crate::api::store::{Store, Stored, TooOld};
use crate::api::{events, object, table};

/// Handles `GET …/NAME`.
pub(crate) fn get(store: &Store, ctx: &RequestContext) -> Result<Response, ApiError> {
    let accept = Accept::parse(&ctx.headers)?;
    let stored = existing(store, ctx)?;
    Ok(answer_stored(StatusCode::OK, ctx, accept, &stored))
}

/// Returns the object that the request names.
pub(crate) fn existing(store: &Store, ctx: &RequestContext) -> Result<Arc<Stored>, ApiError> {
    store
        .get(ctx.kind, &ctx.namespace, &ctx.name)
        .ok_or_else(|| ApiError::not_found(ctx.kind, &ctx.name))
}

/// Answers with one version of an object in the form that the client accepts. The JSON is built
/// once and shared by all clients.
pub(crate) fn answer_stored(
    code: StatusCode,
    ctx: &RequestContext,
    accept: Accept,
    stored: &Stored,
) -> Response {
    let as_json = Accept {
        form: Form::Object,
        yaml: false,
    };
    if accept == as_json && !ctx.kind.is_events_v1() {
        return respond_bytes(code, "application/json", stored.json().clone());
    }
    answer(code, ctx, accept, &stored.value)
}

/// Answers with one object in the form that the client accepts.
pub(crate) fn answer(code: StatusCode, ctx: &RequestContext, accept: Accept, stored: &Value) -> Response {
    let value = match accept.form {
        Form::Object => events::to_served(ctx.kind, stored.clone()),
        Form::Metadata => metadata_only(stored),
        Form::Table => table::of_objects(
            ctx,
            &[stored],
            object::text(stored, &["metadata", "resourceVersion"]),
        ),
    };
    respond(code, accept.yaml, &value)
}

/// Returns the selectors of a request. A name in the path of a watch counts as a selector.
pub(crate) fn selector(ctx: &RequestContext) -> Result<Selector, ApiError> {
    let mut fields = ctx.options.get("fieldSelector").to_owned();
    if !ctx.name.is_empty() {
        let by_name = format!("metadata.name={}", ctx.name);
        fields = if fields.is_empty() {
            by_name
        } else {
            format!("{fields},{by_name}")
        };
    }
    Selector::parse(ctx.kind, ctx.options.get("labelSelector"), &fields)
}

/// Handles `GET …` of a collection.
pub(crate) fn list(store: &Store, ctx: &RequestContext) -> Result<Response, ApiError> {
    let accept = Accept::parse(&ctx.headers)?;
    let page = page(store, ctx)?;
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(token) = page.continues {
        metadata["continue"] = json!(token);
        if ctx.options.get("labelSelector").is_empty() && ctx.options.get("fieldSelector").is_empty() {
            metadata["remainingItemCount"] = json!(page.remaining);
        }
    }
    if accept
        == (Accept {
            form: Form::Object,
            yaml: false,
        })
        && !ctx.kind.is_events_v1()
    {
        let bytes = list_bytes(ctx, &metadata, &page.items);
        return Ok(respond_bytes(StatusCode::OK, "application/json", bytes));
    }
    let values: Vec<&Value> = page.items.iter().map(|stored| &stored.value).collect();
    Ok(respond(
        StatusCode::OK,
        accept.yaml,
        &list_value(ctx, accept.form, &metadata, &values),
    ))
}

fn list_value(ctx: &RequestContext, form: Form, metadata: &Value, values: &[&Value]) -> Value {
    match form {
        Form::Table => {
            let mut table = table::of_objects(ctx, values, "");
            table["metadata"] = metadata.clone();
            table
        }
        Form::Metadata => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": values.iter().map(|value| metadata_only(value)).collect::<Vec<_>>(),
        }),
        Form::Object => json!({
            "kind": ctx.kind.list_kind(),
            "apiVersion": ctx.kind.api_version(),
            "metadata": metadata,
            "items": values.iter().map(|v| events::to_served(ctx.kind, (*v).clone())).collect::<Vec<_>>(),
        }),
    }
}

fn list_bytes(ctx: &RequestContext, metadata: &Value, items: &[Arc<Stored>]) -> Bytes {
    let mut out =
        BytesMut::with_capacity(256 + items.iter().map(|item| item.json().len() + 1).sum::<usize>());
    let (kind, version) = (ctx.kind.list_kind(), ctx.kind.api_version());
    out.put_slice(
        format!("{{\"kind\":{kind:?},\"apiVersion\":{version:?},\"metadata\":{metadata},\"items\":[")
            .as_bytes(),
    );
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        out.put_slice(item.json());
    }
    out.put_slice(b"]}");
    out.freeze()
}

struct Page {
    revision: u64,
    items: Vec<Arc<Stored>>,
    continues: Option<String>,
    remaining: usize,
}

fn page(store: &Store, ctx: &RequestContext) -> Result<Page, ApiError> {
    let selector = selector(ctx)?;
    let limit: usize = ctx.options.number("limit")?.unwrap_or(0);
    let token = ctx.options.get("continue");
    let start = if token.is_empty() {
        None
    } else {
        Some(decode_token(token)?)
    };
    let (revision, mut items) = match &start {
        Some((revision, _)) => (*revision, at_revision(store, ctx, *revision)?),
        None => snapshot(store, ctx)?,
    };
    items.retain(|stored| selector.is_empty() || selector.matches(&stored.value));
    if let Some((_, after)) = &start {
        items.retain(|stored| position(&stored.value) > *after);
    }
    let remaining = if limit > 0 {
        items.len().saturating_sub(limit)
    } else {
        0
    };
    items.truncate(items.len() - remaining);
    let continues = items
        .last()
        .filter(|_| remaining > 0)
        .map(|last| encode_token(revision, &last.value));
    Ok(Page {
        revision,
        items,
        continues,
        remaining,
    })
}

/// Returns the collection at the revision that `resourceVersion` and `resourceVersionMatch` ask
/// for.
fn snapshot(store: &Store, ctx: &RequestContext) -> Result<(u64, Vec<Arc<Stored>>), ApiError> {
    let wanted = requested_revision(&ctx.options)?;
    let exact = ctx.options.get("resourceVersionMatch") == "Exact";
    let (revision, items) = store.list(ctx.kind, &ctx.namespace);
    match wanted {
        Some(wanted) if wanted > revision => Err(too_large(wanted, revision)),
        Some(0) | None if exact => Err(ApiError::bad_request(
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
        )),
        Some(wanted) if exact => Ok((wanted, at_revision(store, ctx, wanted)?)),
        _ => Ok((revision, items)),
    }
}

/// Parses the `resourceVersion` parameter.
pub(crate) fn requested_revision(options: &Options) -> Result<Option<u64>, ApiError> {
    let text = options.get("resourceVersion");
    match text {
        "" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!(
                "resourceVersion: Invalid value: {text:?}: must be a number"
            ))
        }),
    }
}

/// Refuses a revision that this server has not reached: the client comes from another cluster.
pub(crate) fn too_large(wanted: u64, revision: u64) -> ApiError {
    ApiError {
        details: Some(json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        })),
        ..ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            format!("Too large resource version: {wanted}, current: {revision}"),
        )
    }
}

fn at_revision(store: &Store, ctx: &RequestContext, revision: u64) -> Result<Vec<Arc<Stored>>, ApiError> {
    store.list_at(ctx.kind, &ctx.namespace, revision).map_err(|TooOld { oldest }| {
        ApiError::expired(format!(
            "The provided continue parameter or resource version is too old ({revision}, oldest is {oldest}): \
             start a new list without it"
        ))
    })
}

fn position(value: &Value) -> (String, String) {
    (
        object::namespace(value).to_owned(),
        object::name(value).to_owned(),
    )
}

fn encode_token(revision: u64, last: &Value) -> String {
    let (namespace, name) = position(last);
    URL_SAFE_NO_PAD.encode(json!({"rv": revision, "ns": namespace, "name": name}).to_string())
}

fn decode_token(token: &str) -> Result<(u64, (String, String)), ApiError> {
    let invalid = || ApiError::bad_request("continue key is not valid");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let text = |key: &str| value[key].as_str().map(str::to_owned).ok_or_else(invalid);
    Ok((
        value["rv"].as_u64().ok_or_else(invalid)?,
        (text("ns")?, text("name")?),
    ))
}
