//! The listeners of the ClusterIP proxies: one per planned address, each copying bytes to a random endpoint.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Plan;

/// How long an endpoint may take to accept. On one bridge an answer takes microseconds; a partitioned or frozen
/// pod gives none, and the client is then told within the time a Linux client's first two SYN retries take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The running listeners. Dropping it closes them; connections already made live on, as they do when kube-proxy
/// changes its rules.
#[derive(Default)]
pub(crate) struct Proxies {
    running: BTreeMap<SocketAddrV4, Proxy>,
}

struct Proxy {
    backends: watch::Sender<Vec<SocketAddrV4>>,
    task: JoinHandle<()>,
}

impl Proxies {
    /// Makes the listeners be those of the plan.
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
                Err(error) => tracing::warn!(%address, %error, "a ClusterIP port cannot be served"),
            }
        }
    }
}

impl Proxy {
    async fn start(address: SocketAddrV4, backends: Vec<SocketAddrV4>) -> std::io::Result<Self> {
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

async fn accept(listener: TcpListener, backends: watch::Receiver<Vec<SocketAddrV4>>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let backend = pick(&backends.borrow());
                tokio::spawn(forward(client, backend));
            }
            // The client gave up between the kernel's accept and ours, or descriptors ran out: either way the
            // next accept tells, and yielding keeps this from spinning the worker.
            Err(error) => {
                tracing::debug!(%error, "a ClusterIP connection was not accepted");
                tokio::task::yield_now().await;
            }
        }
    }
}

/// A random endpoint, as kube-proxy picks. The standard library's hasher keys are its only source of randomness,
/// and random enough to spread connections.
fn pick(backends: &[SocketAddrV4]) -> Option<SocketAddrV4> {
    let random = usize::try_from(RandomState::new().hash_one(()) >> 32).ok()?;
    backends.get(random.checked_rem(backends.len())?).copied()
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
    // Request-response traffic of small packets: delayed sends would show as latency the cluster does not have.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    if tokio::io::copy_bidirectional(&mut client, &mut server)
        .await
        .is_err()
    {
        reset(&client);
    }
}

/// Makes the close that follows a reset (RST) instead of an orderly end: the client must not read an empty reply.
fn reset(client: &TcpStream) {
    if let Err(error) = client.set_zero_linger() {
        tracing::debug!(%error, "a ClusterIP connection is closed instead of reset");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_reach_every_endpoint() {
        let backends: Vec<SocketAddrV4> = (1..=3)
            .map(|n| SocketAddrV4::new([10, 244, 0, n].into(), 1))
            .collect();
        let picked: std::collections::BTreeSet<_> = (0..200).filter_map(|_| pick(&backends)).collect();
        assert_eq!(picked.len(), 3);
        assert_eq!(pick(&[]), None);
    }
}
