//! Ways in: HTTPS for everybody with a token, and an in-process client for the cluster's own parts.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::auth::Identity;
use super::server::ApiServer;

/// HTTP/2 streams per connection: one client may hold a watch for each of hundreds of waits.
const MAX_STREAMS: u32 = 1024;

impl ApiServer {
    /// A client of this server that needs no connection. It is the system itself and may do everything.
    /// `exec` and `portforward` need a connection that can be upgraded and do not work through it.
    pub fn client(self: &Arc<Self>) -> kube::Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let mut request = request.map(Body::new);
            request
                .extensions_mut()
                .insert(Identity::admin("system:embedded-cluster"));
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
        // Dropped with this future: no connection outlives the server.
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(Arc::clone(&self), acceptor.clone(), stream));
                }
                // Out of descriptors, or a connection that was reset before it was accepted.
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

async fn serve_connection(server: Arc<ApiServer>, acceptor: TlsAcceptor, stream: TcpStream) {
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
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.handle(request.map(Body::new)).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(MAX_STREAMS);
    if let Err(error) = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "connection ended");
    }
}
