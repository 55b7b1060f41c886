//! `pods/log`.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde_json::Value;

use super::pod_target;
use crate::api::object::{at, list, text};
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::{ApiError, FieldError};
use crate::runtime::LogOptions;
use crate::seconds::bounded;

/// Handles `GET …/pods/NAME/log`.
pub(super) async fn get(server: &ApiServer, ctx: &RequestContext) -> Result<Response, ApiError> {
    let (pod, key) = pod_target::pod(server, ctx)?;
    let options = options(ctx)?;
    let container = pod_target::container(ctx, &pod.value)?;
    if text(&pod.value, &["spec", "nodeName"]).is_empty() {
        return Ok(plain_text(Body::empty()));
    }
    check_state(ctx, &pod.value, &container, options.previous)?;
    let stream = server
        .runtime()?
        .logs(key, container, options)
        .await
        .map_err(|error| pod_target::refusal(&error))?;
    Ok(plain_text(Body::from_stream(stream)))
}

fn plain_text(body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn options(ctx: &RequestContext) -> Result<LogOptions, ApiError> {
    let query = &ctx.options;
    let mut errors = Vec::new();
    let mut at_least = |field: &str, least: i64| -> Result<Option<i64>, ApiError> {
        let number: Option<i64> = query.number(field)?;
        if let Some(number) = number.filter(|number| *number < least) {
            let text = format!("must be greater than or equal to {least}");
            errors.push(FieldError::invalid(field, number, text));
        }
        Ok(number)
    };
    let tail_lines = at_least("tailLines", 0)?;
    let limit_bytes = at_least("limitBytes", 1)?;
    let since_seconds = at_least("sinceSeconds", 1)?;
    let since_time = match query.get("sinceTime") {
        "" => None,
        text => Some(text.parse::<Timestamp>().map_err(|error| {
            ApiError::bad_request(format!("sinceTime: Invalid value: {text:?}: {error}"))
        })?),
    };
    if since_seconds.is_some() && since_time.is_some() {
        errors.push(FieldError::forbidden(
            "sinceSeconds",
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    if !errors.is_empty() {
        let mut error = ApiError::invalid(ctx.kind, &ctx.name, &errors);
        error.message = error.message.replacen("Pod ", "PodLogOptions ", 1);
        return Err(error);
    }
    let ago = since_seconds.map(|seconds| Timestamp::now() - bounded(seconds));
    Ok(LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        tail_lines: tail_lines.and_then(|lines| lines.try_into().ok()),
        limit_bytes: limit_bytes.and_then(|bytes| bytes.try_into().ok()),
        since: ago.or(since_time),
        timestamps: query.flag("timestamps"),
    })
}

/// Returns Kubernetes' error when there is no log to read yet, or no earlier one.
fn check_state(ctx: &RequestContext, pod: &Value, container: &str, previous: bool) -> Result<(), ApiError> {
    let status = ["containerStatuses", "initContainerStatuses"]
        .iter()
        .flat_map(|field| list(pod, &["status", field]))
        .find(|status| text(status, &["name"]) == container);
    let ended_before = status.is_some_and(|status| at(status, &["lastState", "terminated"]).is_some());
    if previous {
        if ended_before {
            return Ok(());
        }
        let message = format!(
            "previous terminated container {container:?} in pod {:?} not found",
            ctx.name
        );
        return Err(ApiError::bad_request(message));
    }
    let waiting = status.and_then(|status| at(status, &["state", "waiting"]));
    if let Some(waiting) = waiting.filter(|_| !ended_before) {
        let reason = text(waiting, &["reason"]);
        let message = match reason {
            "ImagePullBackOff" | "ErrImagePull" | "ErrImageNeverPull" | "InvalidImageName" => {
                format!("trying and failing to pull image ({reason})")
            }
            _ => reason.to_owned(),
        };
        return Err(ApiError::bad_request(format!(
            "container {container:?} in pod {:?} is waiting to start: {message}",
            ctx.name
        )));
    }
    Ok(())
}
