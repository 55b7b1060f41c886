//! The pod and the container that a `log`, `exec` or `portforward` request names.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::api::object::{self, list, text};
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::ApiError;
use crate::api::store::Stored;
use crate::api::verbs::read;
use crate::runtime::{PodKey, RuntimeError};

/// Returns the pod that the request names, and its key at the node.
pub(super) fn pod(server: &ApiServer, ctx: &RequestContext) -> Result<(Arc<Stored>, PodKey), ApiError> {
    let stored = read::existing(&server.store, ctx)?;
    let key = PodKey {
        namespace: ctx.namespace.clone(),
        name: ctx.name.clone(),
        uid: object::uid(&stored.value).to_owned(),
    };
    Ok((stored, key))
}

/// Returns the requested container, or the only one.
pub(super) fn container(ctx: &RequestContext, pod: &Value) -> Result<String, ApiError> {
    let names = |field: &str| -> Vec<&str> {
        list(pod, &["spec", field])
            .iter()
            .map(|container| text(container, &["name"]))
            .collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let asked = ctx.options.get("container");
    if !asked.is_empty() {
        if main.contains(&asked) || init.contains(&asked) {
            return Ok(asked.to_owned());
        }
        let message = format!("container {asked} is not valid for pod {}", ctx.name);
        return Err(ApiError::bad_request(message));
    }
    match main.as_slice() {
        [only] => Ok((*only).to_owned()),
        _ => {
            let mut message = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                ctx.name,
                main.join(" ")
            );
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::bad_request(message))
        }
    }
}

/// Converts the node's refusal to a status.
pub(super) fn refusal(error: &RuntimeError) -> ApiError {
    match error {
        RuntimeError::NotFound { .. } => ApiError::new(StatusCode::NOT_FOUND, "NotFound", error.to_string()),
        RuntimeError::BadRequest(_) => ApiError::bad_request(error.to_string()),
        RuntimeError::CannotExec(_) | RuntimeError::Io { .. } => internal(&with_cause(error)),
    }
}

/// Builds an error as the node reports it. The cause appears twice, as in Kubernetes.
pub(super) fn internal(text: &str) -> ApiError {
    ApiError {
        details: Some(json!({"causes": [{"message": text}]})),
        ..ApiError::internal(format!("Internal error occurred: {text}"))
    }
}

/// Formats an error with its chain of causes.
pub(super) fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_cause(source)),
        None => error.to_string(),
    }
}
