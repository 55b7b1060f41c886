//! The listeners of the ClusterIP proxies: one per planned address. Each copies bytes to an
//! endpoint.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::choice::Choices;
use super::{Backends, Plan};

/// The time that an endpoint may take to accept. An answer on one bridge takes microseconds; a
/// partitioned or frozen pod gives none. The client then gets the failure within the time of a
/// Linux client's first two SYN retries.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The running listeners. Dropping the value closes them; established connections stay open, as
/// they do when kube-proxy changes its rules.
#[derive(Default)]
pub(crate) struct Proxies {
    running: BTreeMap<SocketAddrV4, Proxy>,
}

struct Proxy {
    backends: watch::Sender<Backends>,
    task: JoinHandle<()>,
}

impl Proxies {
    /// Changes the listeners to those of the plan.
    pub(crate) async fn apply(&mut self, plan: &Plan) {
        self.running.retain(|address, _| plan.contains_key(address));
        for (address, backends) in plan {
            if let Some(proxy) = self.running.get(address) {
                proxy.backends.send_replace(backends.clone());
                continue;
            }
            match Proxy::start(*address, backends.clone()).await {
                Ok(proxy) => {
                    self.running.insert(*address, proxy);
                }
                Err(error) => tracing::warn!(%address, %error, "failed to listen on a ClusterIP port"),
            }
        }
    }
}

impl Proxy {
    async fn start(address: SocketAddrV4, backends: Backends) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (sender, receiver) = watch::channel(backends);
        let task = tokio::spawn(accept(listener, receiver));
        Ok(Self {
            backends: sender,
            task,
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, backends: watch::Receiver<Backends>) {
    let mut choices = Choices::default();
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                let backend = choices.choose(&backends.borrow(), from.ip(), Instant::now());
                tokio::spawn(forward(client, backend));
            }
            // Either the client gave up before this accept, or descriptors ran out. The next accept
            // shows which; yielding prevents a busy loop on the worker.
            Err(error) => {
                tracing::debug!(%error, "a ClusterIP connection was not accepted");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn forward(mut client: TcpStream, backend: Option<SocketAddrV4>) {
    let connected = match backend {
        Some(backend) => tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(backend)).await,
        None => return reset(&client),
    };
    let Ok(Ok(mut server)) = connected else {
        tracing::debug!(?backend, "a Service's endpoint does not accept");
        return reset(&client);
    };
    // Request-response traffic has small packets. Delayed sends would show as latency that the
    // cluster does not have.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    if tokio::io::copy_bidirectional(&mut client, &mut server)
        .await
        .is_err()
    {
        reset(&client);
    }
}

/// Makes the next close send a reset (RST) instead of an orderly end: the client must not read an
/// empty reply.
fn reset(client: &TcpStream) {
    if let Err(error) = client.set_zero_linger() {
        tracing::debug!(%error, "a ClusterIP connection is closed instead of reset");
    }
}
