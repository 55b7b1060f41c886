//! Connections: HTTPS for everybody with a token, an in-process client for the cluster's own
//! components.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use super::auth::{INTERNAL, Identity};
use super::authorize::Caller;
use super::newcomers::{Newcomer, Newcomers};
use super::server::{ApiServer, panic_text, refuse};

/// HTTP/2 streams per connection. One client may wait for hundreds of objects, each with its own
/// watch.
const MAX_STREAMS: u32 = 1024;

/// The most connections at once. Further ones are closed as soon as they arrive.
const MAX_CONNECTIONS: usize = 4096;

/// The pause after the process runs out of descriptors or buffers. Without a pause the accept loop
/// would fail again at once and spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Interval of HTTP/2 keep-alive pings, and the deadline for an answer. Both are generous, so that
/// a live client on an overloaded machine is not taken for dead.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_DEADLINE: Duration = Duration::from_secs(120);

/// Interval at which repeated warnings are logged, with their number.
const WARN_EVERY: Duration = Duration::from_secs(10);

impl ApiServer {
    /// Returns a client of this server that needs no connection. It is the system itself and may do
    /// everything. `exec` and `portforward` need a connection that can be upgraded, so they do not
    /// work through this client.
    pub fn client(self: &Arc<Self>) -> kube::Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let mut request = request.map(Body::new);
            let caller = Caller::configured(Identity::admin(INTERNAL));
            request.extensions_mut().insert(caller);
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.handle(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Serves HTTPS (HTTP/1.1 and HTTP/2) on the listener until the future is dropped.
    ///
    /// # Errors
    /// When the listener cannot be used by the runtime.
    pub async fn serve(
        self: Arc<Self>,
        listener: std::net::TcpListener,
        mut tls: rustls::ServerConfig,
    ) -> io::Result<()> {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let newcomers = Newcomers::default();
        let mut warning = Warning::default();
        // The connections are dropped with this future, so none outlives the server.
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(ended) = connections.join_next() => {
                    report(ended);
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                    let newcomer = newcomers.enter();
                    connections.spawn(serve_connection(
                        Arc::clone(&self),
                        acceptor.clone(),
                        stream,
                        newcomer,
                    ));
                }
                Ok(_) => warning.tell(&format!("a connection is closed: {MAX_CONNECTIONS} are open")),
                Err(error) if is_exhausted(&error) => {
                    warning.tell(&format!("a connection cannot be accepted: {error}"));
                    newcomers.close_oldest();
                    // A sleep is right here: no event reports that descriptors are free again.
                    sleep_until(Instant::now() + PAUSE).await;
                }
                // The client reset the connection before it was accepted.
                Err(error) => tracing::debug!(%error, "connection not accepted"),
            }
        }
    }
}

/// Returns true if the process or the machine has no descriptor or memory left for a connection.
fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| exhausted.contains(&code))
}

/// Logs a panic outside a request's handler, such as in the stream of a watch.
fn report(ended: Result<(), JoinError>) {
    if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
        tracing::error!(
            what = panic_text(panic.as_ref()),
            "a connection of the API server panicked"
        );
    }
}

async fn serve_connection(
    server: Arc<ApiServer>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    newcomer: Newcomer,
) {
    let newcomer = Arc::new(newcomer);
    tokio::select! {
        () = talk(server, acceptor, stream, Arc::clone(&newcomer)) => {}
        () = newcomer.closed() => tracing::debug!("closed a connection that sent no authenticated request"),
    }
}

async fn talk(server: Arc<ApiServer>, acceptor: TlsAcceptor, stream: TcpStream, newcomer: Arc<Newcomer>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "small writes may be delayed");
    }
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "TLS handshake failed");
            return;
        }
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, newcomer) = (Arc::clone(&server), Arc::clone(&newcomer));
        async move { Ok::<_, Infallible>(answer(server, &newcomer, request.map(Body::new)).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_DEADLINE)
        .max_concurrent_streams(MAX_STREAMS);
    if let Err(error) = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "connection ended");
    }
}

async fn answer(server: Arc<ApiServer>, newcomer: &Newcomer, mut request: Request<Body>) -> Response {
    match server.authenticate(request.headers()) {
        Ok(caller) => {
            newcomer.admit();
            request.extensions_mut().insert(caller);
            server.handle(request).await
        }
        Err(error) => refuse(&error),
    }
}

/// A warning that may come thousands of times a second, and is logged once per interval.
#[derive(Default)]
struct Warning {
    last: Option<Instant>,
    untold: u64,
}

impl Warning {
    fn tell(&mut self, text: &str) {
        if self.last.is_some_and(|last| last.elapsed() < WARN_EVERY) {
            self.untold += 1;
            return;
        }
        tracing::warn!(untold = self.untold, "{text}");
        *self = Self {
            last: Some(Instant::now()),
            untold: 0,
        };
    }
}
