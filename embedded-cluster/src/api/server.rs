//! The API server: receives an HTTP request, calls the verb and sends the answer.

use std::any::Any;
use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Method, Request, StatusCode, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ipnet::Ipv4Net;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::auth::{INTERNAL, Token, authenticate, bearer};
use super::authorize::{Action, Caller, forbidden, forbidden_path, scope, user_of};
use super::content::{self, MAX_BODY, respond};
use super::kinds::ResourceKind;
use super::request::{Options, RequestContext, Resource, ResourcePath, verb};
use super::service_account_token::SigningKey;
use super::status::ApiError;
use super::store::Store;
use super::verbs::{create, delete, patch, read, update, watch};
use super::{bootstrap, discovery, kinds, object, reviews, subresources};
use crate::runtime::PodRuntime;

/// Settings of an API server.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Tokens of the callers that may connect over the network.
    pub tokens: Vec<Token>,
    /// Addresses that Services get: network and prefix length.
    pub service_network: Ipv4Net,
}

impl Default for ApiConfig {
    /// Returns a configuration without tokens, and with kubeadm's Service range, 10.96.0.0/12.
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            service_network: Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12),
        }
    }
}

/// The API server. It is cheap to share and stores everything in memory.
pub struct ApiServer {
    pub(crate) config: ApiConfig,
    pub(crate) store: Arc<Store>,
    /// Position in the range of the last allocated Service address.
    pub(crate) last_address: AtomicU32,
    /// Held from the choice of a Service's address and ports until the Service is stored.
    allocations: Mutex<()>,
    /// Permits for watches of clients.
    pub(crate) watches: Arc<Semaphore>,
    /// Signs the tokens of service accounts.
    pub(crate) signing_key: SigningKey,
    runtime: OnceLock<Arc<dyn PodRuntime>>,
}

impl ApiServer {
    /// Creates a server with the namespaces and the Service that every cluster has.
    pub fn new(config: ApiConfig) -> Arc<Self> {
        let server = Arc::new(Self {
            config,
            store: Arc::new(Store::new()),
            last_address: AtomicU32::new(0),
            allocations: Mutex::new(()),
            watches: Arc::new(Semaphore::new(watch::MAX_WATCHES)),
            signing_key: SigningKey::random(),
            runtime: OnceLock::new(),
        });
        bootstrap::fill(&server);
        server
    }

    /// Blocks other writers of a kind with allocated fields until the guard is dropped. `None` for
    /// kinds that allocate nothing.
    pub(crate) fn allocation(&self, kind: &ResourceKind) -> Option<MutexGuard<'_, ()>> {
        let allocates = kind.behaviour.allocates;
        allocates.then(|| self.allocations.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Connects the node, which `log`, `exec`, `attach` and `portforward` need. Only the first call
    /// counts.
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

    /// Answers one request. Errors and panics both become a `Status`.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Body>) -> Response {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let watching = request.uri().query().is_some_and(|query| query.contains("watch"));
        let outcome = AssertUnwindSafe(self.route(request)).catch_unwind().await;
        let response = match outcome {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => refuse(&error),
            Err(panic) => {
                let what = panic_text(panic.as_ref());
                tracing::error!(%method, path, what, "the API server panicked");
                let message = format!("the API server panicked at {method} {path}: {what}");
                refuse(&ApiError::internal(message))
            }
        };
        tracing::debug!(%method, path, watching, code = response.status().as_u16(), "request");
        response
    }

    /// Returns the caller that a request's headers name.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        match authenticate(&self.config.tokens, headers) {
            Ok(identity) => Ok(Caller::configured(identity)),
            Err(error) => self.service_account(bearer(headers)).ok_or(error),
        }
    }

    /// Returns the service account of a token. The account and the pod that the token is bound to
    /// must exist.
    fn service_account(&self, token: &str) -> Option<Caller> {
        let claims = self.signing_key.verify(token, jiff::Timestamp::now())?;
        let exists = |plural: &str, name: &str, uid: &str| {
            let kind = kinds::find("", "v1", plural).expect("a kind of the table");
            let found = self.store.get(kind, &claims.namespace, name)?;
            (object::uid(&found.value) == uid).then_some(found)
        };
        let account = exists("serviceaccounts", &claims.name, &claims.uid)?;
        if let Some((name, uid)) = &claims.pod {
            exists("pods", name, uid)?;
        }
        Some(Caller::user(&user_of(&account.value), Vec::new()))
    }

    fn authorize(&self, caller: &Caller, target: &ResourcePath, verb: &str) -> Result<(), ApiError> {
        let (group, plural) = match target.resource {
            Resource::Stored(kind) => (kind.group, kind.plural),
            Resource::Virtual(kind) => (kind.group, kind.plural),
        };
        let resource = match target.subresource.as_str() {
            "" => plural.to_owned(),
            subresource => format!("{plural}/{subresource}"),
        };
        let action = Action {
            verb,
            group,
            resource: &resource,
            namespace: scope(group, plural, &target.namespace, &target.name),
            name: &target.name,
        };
        if self.allows(caller, &action) {
            return Ok(());
        }
        Err(forbidden(&caller.identity, &action))
    }

    async fn route(self: Arc<Self>, request: Request<Body>) -> Result<Response, ApiError> {
        let (parts, body) = request.into_parts();
        let caller = match parts.extensions.get::<Caller>() {
            Some(caller) => caller.clone(),
            None => self.authenticate(&parts.headers)?,
        };
        let internal = !caller.by_roles && caller.identity.user == INTERNAL;
        let caller = self.impersonate(caller, &parts.headers)?;
        let Some(target) = ResourcePath::parse(parts.uri.path()) else {
            if !self.allows_path(&caller, parts.uri.path()) {
                return Err(forbidden_path(&caller.identity, "get", parts.uri.path()));
            }
            return discovery::answer(&parts);
        };
        let options = Options::parse(&parts.uri)?;
        self.authorize(&caller, &target, verb(&parts.method, &target, &options))?;
        let kind = match target.resource {
            Resource::Stored(kind) => kind,
            Resource::Virtual(kind) => {
                let body = read_body(body).await?;
                return reviews::answer(&self, &parts, kind, &caller, &body);
            }
        };
        let ctx = RequestContext {
            method: parts.method.clone(),
            kind,
            namespace: target.namespace,
            name: target.name,
            subresource: target.subresource,
            options,
            headers: parts.headers.clone(),
            internal,
        };
        self.dispatch(ctx, parts, body).await
    }

    async fn dispatch(
        self: Arc<Self>,
        ctx: RequestContext,
        parts: Parts,
        body: Body,
    ) -> Result<Response, ApiError> {
        if !matches!(ctx.subresource.as_str(), "" | "status") {
            return subresources::dispatch(self, ctx, parts, body).await;
        }
        let named = !ctx.name.is_empty();
        let watching = ctx.options.flag("watch");
        match (&ctx.method, named) {
            (&Method::GET, _) if watching => watch::watch(&self, ctx),
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

/// Time that a body may take to arrive: kube-apiserver's `--request-timeout`.
const BODY_DEADLINE: Duration = Duration::from_secs(60);

/// Converts a refusal to a response.
pub(crate) fn refuse(error: &ApiError) -> Response {
    respond(error.code, false, &error.to_status())
}

pub(crate) async fn read_json(headers: &HeaderMap, body: Body) -> Result<Value, ApiError> {
    content::decode(headers, &read_body(body).await?)
}

pub(crate) async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let read = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY).collect());
    let Ok(read) = read.await else {
        return Err(ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            format!(
                "Timeout: the body did not arrive within {} s",
                BODY_DEADLINE.as_secs()
            ),
        ));
    };
    match read {
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

/// Returns the text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
