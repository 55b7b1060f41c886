//! PID 1: puts API server, controllers, network and node together, and says when they are ready.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::credentials::Credentials;
use super::isolate::{StepError, say};
use super::protocol::{Access, Reply, Request};
use crate::api::{ApiConfig, ApiServer, Identity, Token};
use crate::controllers::{self, ControllersConfig};
use crate::images::ImageStore;
use crate::network::{Network, NetworkConfig};
use crate::node::{Node, NodeConfig, Reaper};

/// Name of the cluster's only node, and host name inside its namespaces.
pub(super) const NODE_NAME: &str = "embedded-node";

/// User name of the identity that the kubeconfig carries, the one that kubeadm gives its administrator.
const ADMINISTRATOR: &str = "kubernetes-admin";

/// Threads of the runtime. The machines this is made for have two cores, and the work is waiting for events.
const WORKER_THREADS: usize = 2;

/// Runs the cluster until the process is killed.
pub(super) fn run(request: Request, listener: TcpListener, state_dir: &Path) -> Result<(), StepError> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("EMBEDDED_CLUSTER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,embedded_cluster=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(|e| StepError::new("start the async runtime", e))?;
    runtime.block_on(serve(request, listener, state_dir))
}

async fn serve(request: Request, listener: TcpListener, state_dir: &Path) -> Result<(), StepError> {
    let reaper = Reaper::install().map_err(|e| StepError::new("install the reaper of processes", e))?;
    let credentials =
        Credentials::generate(&request.name).map_err(|e| StepError::new("make credentials", e))?;
    let port = listener
        .local_addr()
        .map_err(|e| StepError::new("read the API's address", e))?
        .port();
    let images = ImageStore::open(&request.image_store).map_err(|e| {
        StepError::new(
            format!("open the image store {}", request.image_store.display()),
            e,
        )
    })?;
    let network = Network::setup(NetworkConfig::default())
        .await
        .map_err(|e| StepError::new("set up the pod network", e))?;

    let mut tokens = vec![Token {
        secret: credentials.token.clone(),
        identity: Identity::admin(ADMINISTRATOR),
    }];
    tokens.extend(request.restricted.iter().cloned());
    let api = ApiServer::new(ApiConfig {
        tokens,
        ..ApiConfig::default()
    });
    let client = api.client();
    let stop = CancellationToken::new();
    let controllers = controllers::run(
        ControllersConfig {
            client: client.clone(),
            volumes_dir: state_dir.join("volumes"),
            ca_certificate: credentials.certificate_authority.clone(),
        },
        stop.clone(),
    );
    tokio::spawn(async move {
        if let Err(error) = controllers.await {
            tracing::error!(%error, "the controllers could not start");
        }
    });
    let network = Arc::new(network);
    let addressing = Arc::clone(&network);
    let network_client = client.clone();
    let network_stop = stop.clone();
    tokio::spawn(async move { addressing.run(network_client, network_stop).await });
    let node = Node::start(NodeConfig {
        client,
        network,
        images,
        reaper,
        state_dir: state_dir.to_path_buf(),
        node_name: NODE_NAME.into(),
    })
    .await
    .map_err(|e| StepError::new("start the node", e))?;
    api.set_pod_runtime(node);

    let access = Access {
        name: request.name,
        server: format!("https://127.0.0.1:{port}"),
        certificate_authority: credentials.certificate_authority,
        token: credentials.token,
    };
    say(&Reply::Ready(access)).map_err(|e| StepError::new("report readiness", e))?;
    api.serve(listener, credentials.tls)
        .await
        .map_err(|e| StepError::new("serve the API", e))
}
