//! The server: from an HTTP request to a verb, and back.

use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Method, Request, StatusCode, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::auth::{Identity, Token, authenticate};
use super::content::{self, MAX_BODY, respond};
use super::request::{Context, Options, Resource, Target};
use super::status::ApiError;
use super::store::Store;
use super::verbs::{create, delete, patch, read, update, watch};
use super::{bootstrap, discovery, reviews, subresources};
use crate::runtime::PodRuntime;

/// What an API server needs to know.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Who may come in over the network.
    pub tokens: Vec<Token>,
    /// Addresses that Services get: network and prefix length.
    pub service_network: (Ipv4Addr, u8),
}

impl Default for ApiConfig {
    /// No tokens; Services in 10.96.0.0/12, the range that kubeadm uses.
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            service_network: (Ipv4Addr::new(10, 96, 0, 0), 12),
        }
    }
}

/// The API server. Cheap to share; everything that is stored in it is in memory.
pub struct ApiServer {
    pub(crate) config: ApiConfig,
    pub(crate) store: Arc<Store>,
    /// Where in the range the last Service address was.
    pub(crate) last_address: AtomicU32,
    runtime: OnceLock<Arc<dyn PodRuntime>>,
}

impl ApiServer {
    /// A server with the namespaces and the service that every cluster has.
    pub fn new(config: ApiConfig) -> Arc<Self> {
        let server = Arc::new(Self {
            config,
            store: Arc::new(Store::new()),
            last_address: AtomicU32::new(0),
            runtime: OnceLock::new(),
        });
        bootstrap::fill(&server);
        server
    }

    /// Connects the node, which `log`, `exec`, `attach` and `portforward` need. Only the first call counts.
    pub fn set_pod_runtime(&self, runtime: Arc<dyn PodRuntime>) {
        if self.runtime.set(runtime).is_err() {
            tracing::warn!("the pod runtime was set twice; the first stays");
        }
    }

    pub(crate) fn runtime(&self) -> Result<&Arc<dyn PodRuntime>, ApiError> {
        self.runtime.get().ok_or_else(|| {
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "no node is connected yet",
            )
        })
    }

    /// Answers one request. Never fails and never panics: both become a `Status`.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Body>) -> Response {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let watching = request.uri().query().is_some_and(|query| query.contains("watch"));
        let outcome = AssertUnwindSafe(self.route(request)).catch_unwind().await;
        let response = match outcome {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => refuse(&error),
            Err(_) => refuse(&ApiError::internal(format!(
                "the server panicked at {method} {path}"
            ))),
        };
        tracing::debug!(%method, path, watching, code = response.status().as_u16(), "request");
        response
    }

    async fn route(self: Arc<Self>, request: Request<Body>) -> Result<Response, ApiError> {
        let (parts, body) = request.into_parts();
        let identity = match parts.extensions.get::<Identity>() {
            Some(identity) => identity.clone(),
            None => authenticate(&self.config.tokens, &parts.headers)?,
        };
        let Some(target) = Target::parse(parts.uri.path()) else {
            return discovery::answer(&parts);
        };
        let options = Options::parse(&parts.uri)?;
        authorize(&identity, &target, verb(&parts.method, &target, &options))?;
        let kind = match target.resource {
            Resource::Stored(kind) => kind,
            Resource::Virtual(kind) => {
                let body = read_body(body).await?;
                return reviews::answer(&parts, kind, &identity, &body);
            }
        };
        let ctx = Context {
            method: parts.method.clone(),
            kind,
            namespace: target.namespace,
            name: target.name,
            subresource: target.subresource,
            options,
            headers: parts.headers.clone(),
        };
        self.dispatch(ctx, parts, body).await
    }

    async fn dispatch(self: Arc<Self>, ctx: Context, parts: Parts, body: Body) -> Result<Response, ApiError> {
        if !matches!(ctx.subresource.as_str(), "" | "status") {
            return subresources::dispatch(self, ctx, parts, body).await;
        }
        let named = !ctx.name.is_empty();
        let watching = ctx.options.flag("watch");
        match (&ctx.method, named) {
            (&Method::GET, _) if watching => watch::watch(&self.store, ctx),
            (&Method::GET, true) => read::get(&self.store, &ctx),
            (&Method::GET, false) => read::list(&self.store, &ctx),
            (&Method::POST, false) if ctx.kind.namespaced != ctx.namespace.is_empty() => {
                let body = read_json(&ctx.headers, body).await?;
                create::create(&self, &ctx, body)
            }
            (&Method::PUT, true) => {
                let body = read_json(&ctx.headers, body).await?;
                update::update(&self, &ctx, body)
            }
            (&Method::PATCH, true) => {
                let body = read_body(body).await?;
                patch::patch(&self, &ctx, &body)
            }
            (&Method::DELETE, _) if ctx.subresource.is_empty() => {
                let body = read_json(&ctx.headers, body).await?;
                if named {
                    return delete::delete(&self, &ctx, &body);
                }
                delete::delete_collection(&self, ctx, &body)
            }
            _ => Err(ApiError::method_not_allowed()),
        }
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("revision", &self.store.revision())
            .finish_non_exhaustive()
    }
}

/// A refusal as a response.
pub(crate) fn refuse(error: &ApiError) -> Response {
    respond(error.code, false, &error.to_status())
}

pub(crate) async fn read_json(headers: &HeaderMap, body: Body) -> Result<Value, ApiError> {
    content::decode(headers, &read_body(body).await?)
}

pub(crate) async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {MAX_BODY}"),
        )),
        Err(error) => Err(ApiError::bad_request(format!(
            "the body could not be read: {error}"
        ))),
    }
}

/// The API verb of a request, as access rules name it.
fn verb(method: &Method, target: &Target, options: &Options) -> &'static str {
    let named = !target.name.is_empty();
    match *method {
        Method::GET if options.flag("watch") => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "unknown",
    }
}

fn authorize(identity: &Identity, target: &Target, verb: &str) -> Result<(), ApiError> {
    let (group, plural) = match target.resource {
        Resource::Stored(kind) => (kind.group, kind.plural),
        Resource::Virtual(kind) => (kind.group, kind.plural),
    };
    let resource = if target.subresource.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}/{}", target.subresource)
    };
    if !identity.is_denied(verb, group, &resource, &target.namespace) {
        return Ok(());
    }
    let scope = if target.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", target.namespace)
    };
    let what = if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    };
    let name = if target.name.is_empty() {
        String::new()
    } else {
        format!(" {:?}", target.name)
    };
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "Forbidden",
        format!(
            "{what}{name} is forbidden: User {:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}",
            identity.user
        ),
    ))
}
