//! A client for a long-lived cluster: its API server restarts, fails over and throttles.
//!
//! kube's client itself waits out 429, 503 and 504, as long as `Retry-After` says. It returns an
//! error for a connection that failed or broke. A request that never reached the server is always
//! retried. A request that may have reached the server is retried only if it is idempotent. Watches
//! restart by themselves (the `wait` crate).
//!
//! When one request has used up its retries, others fail at their first attempt until one succeeds.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request, Response, header};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::BoxError;
use tower::buffer::BufferLayer;
use tower::retry::{Policy, RetryLayer};

/// Number of requests that may be queued. The trials of a run have a few dozen in flight.
const QUEUE: usize = 1024;

/// Number of retries of one request. With the delays below they bridge 40 seconds. An API server
/// restarts, and a load balancer fails over, in less.
const RETRIES: u32 = 12;

/// The delay before the first retry. It doubles up to [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Creates a client that bridges the restart of an API server.
pub fn connect(config: Config) -> Result<Client, kube::Error> {
    let builder = ClientBuilder::try_from(config)?
        .with_layer(&BufferLayer::new(QUEUE))
        .with_layer(&RetryLayer::new(Reconnect::default()));
    Ok(builder.build())
}

/// The retry policy. Each request has its own clone; the clones share the state of the server.
#[derive(Debug, Clone, Default)]
struct Reconnect {
    attempts: u32,
    /// True if some request used up its retries and none has succeeded since.
    given_up: Arc<AtomicBool>,
}

impl<B> Policy<Request<Body>, Response<B>, BoxError> for Reconnect {
    type Future = Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut Result<Response<B>, BoxError>,
    ) -> Option<Sleep> {
        let Err(error) = result else {
            self.given_up.store(false, Ordering::Relaxed);
            return None;
        };
        if !(never_sent(error.as_ref()) || is_repeatable(request)) {
            return None;
        }
        if self.attempts == RETRIES {
            self.given_up.store(true, Ordering::Relaxed);
        }
        if self.given_up.load(Ordering::Relaxed) {
            return None;
        }
        let delay = FIRST_DELAY
            .saturating_mul(1 << self.attempts.min(16))
            .min(LONGEST_DELAY);
        self.attempts += 1;
        // A back-off: time itself is awaited.
        Some(sleep_until(Instant::now() + delay))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        let mut copy = Request::new(request.body().try_clone()?);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        Some(copy)
    }
}

/// Returns true if the connection was never made.
fn never_sent(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let connecting = error
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect);
        if connecting {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns true if the request is idempotent. An upgrade is a GET that runs a command or opens a
/// stream, so it is not.
fn is_repeatable(request: &Request<Body>) -> bool {
    let content = request.headers().get(header::CONTENT_TYPE);
    let applies = content.is_some_and(|content| content.as_bytes().starts_with(b"application/apply-patch"));
    match *request.method() {
        Method::GET => !request.headers().contains_key(header::UPGRADE),
        Method::DELETE => true,
        Method::PATCH => applies,
        // A query with a body.
        Method::POST => request.uri().path().ends_with("/selfsubjectaccessreviews"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::PostParams;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const ANSWER: &str = "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\"}}";

    /// Starts a server that drops its first `broken` connections after reading a request. Returns a
    /// client and the number of connections so far.
    async fn server(broken: usize) -> (Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let number = seen.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                if number >= broken {
                    let length = ANSWER.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                         Connection: close\r\n\r\n{ANSWER}"
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        let url = format!("http://{address}")
            .parse()
            .expect("an address makes a URL");
        (
            connect(Config::new(url)).expect("a client needs no server"),
            count,
        )
    }

    #[tokio::test]
    async fn a_read_is_repeated_until_the_server_is_back() {
        let (client, count) = server(2).await;
        let found = Api::<ConfigMap>::namespaced(client, "x").get("a").await;
        assert_eq!(
            found.expect("the third answers").metadata.name.as_deref(),
            Some("a")
        );
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_server_that_stays_away_is_given_up_once() {
        let request = || Request::get("http://x/").body(Body::empty()).expect("a request");
        let broken = || Err::<Response<()>, BoxError>("the connection broke".into());
        let mut first = Reconnect::default();
        let mut second = first.clone();
        first.attempts = RETRIES;
        assert!(second.clone().retry(&mut request(), &mut broken()).is_some());
        assert!(first.retry(&mut request(), &mut broken()).is_none());
        assert!(
            second.retry(&mut request(), &mut broken()).is_none(),
            "it would wait in vain"
        );
        assert!(second.retry(&mut request(), &mut Ok(Response::new(()))).is_none());
        assert!(
            second.retry(&mut request(), &mut broken()).is_some(),
            "the server is back"
        );
    }

    #[tokio::test]
    async fn a_creation_that_may_have_arrived_is_not_repeated() {
        let (client, count) = server(1).await;
        let api = Api::<ConfigMap>::namespaced(client, "x");
        let created = api.create(&PostParams::default(), &ConfigMap::default()).await;
        assert!(
            matches!(created, Err(kube::Error::Service(_) | kube::Error::HyperError(_))),
            "{created:?}"
        );
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_permission_review_is_retried_although_it_is_a_create() {
        let (client, count) = server(1).await;
        let api = Api::<SelfSubjectAccessReview>::all(client);
        let review = SelfSubjectAccessReview::default();
        // The script answers with another kind, which serde rejects.
        let _ = api.create(&PostParams::default(), &review).await;
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_creation_that_never_left_is_repeated() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        drop(listener);
        let url = format!("http://{address}")
            .parse()
            .expect("an address makes a URL");
        let client = connect(Config::new(url)).expect("a client needs no server");
        let api = Api::<ConfigMap>::namespaced(client, "x");
        let late = async {
            tokio::task::yield_now().await;
            let listener = TcpListener::bind(address).await.expect("the port is still free");
            let (mut stream, _) = listener.accept().await.expect("the request comes again");
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let length = ANSWER.len();
            let answer = format!("HTTP/1.1 201 Created\r\nContent-Length: {length}\r\n\r\n{ANSWER}");
            stream
                .write_all(answer.as_bytes())
                .await
                .expect("the client listens");
        };
        let params = PostParams::default();
        let object = ConfigMap::default();
        let (created, ()) = tokio::join!(api.create(&params, &object), late);
        assert!(created.is_ok(), "{created:?}");
    }
}
