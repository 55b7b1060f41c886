//! PID 1: starts API server, controllers, network and node, and reports when they are ready.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::credentials::Credentials;
use super::isolate::{EXIT_DIED, StepError, say};
use super::protocol::{Access, Reply, Request};
use crate::api::{ApiConfig, ApiServer, Identity, Token};
use crate::controllers::{self, ControllersConfig};
use crate::health::{Death, Health};
use crate::images::ImageStore;
use crate::network::{Network, NetworkConfig};
use crate::node::{Node, NodeConfig, Reaper};

/// Name of the cluster's only node, and host name inside its namespaces.
pub(super) const NODE_NAME: &str = "embedded-node";

/// User name of the kubeconfig's identity, as kubeadm names its administrator.
const ADMINISTRATOR: &str = "kubernetes-admin";

/// Number of threads of the runtime. The target machines have two cores, and most of the work is
/// waiting for events.
const WORKER_THREADS: usize = 2;

/// Runs the cluster until the process is killed.
pub(super) fn run(
    request: Request,
    listener: TcpListener,
    state_dir: &Path,
    cgroups: &str,
) -> Result<(), StepError> {
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
    let health = Health::default();
    health.watch_panics();
    let served = runtime.block_on(async {
        tokio::select! {
            served = serve(request, listener, state_dir, cgroups, &health) => Ok(served),
            death = health.death() => Err(death),
        }
    });
    match served {
        Ok(served) => served,
        Err(death) => end(&death),
    }
}

/// Reports the death to the host program and exits at once. After a death, the other parts of the
/// cluster are not reliable.
fn end(death: &Death) -> ! {
    // A failed report means that the host program is gone, which needs no handling.
    let _ = say(&Reply::Died {
        part: death.part.clone(),
        cause: death.cause.clone(),
    });
    std::process::exit(EXIT_DIED)
}

async fn serve(
    request: Request,
    listener: TcpListener,
    state_dir: &Path,
    cgroups: &str,
    health: &Health,
) -> Result<(), StepError> {
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
    let controllers_health = health.clone();
    tokio::spawn(async move {
        let ended = match controllers.await {
            Ok(()) => "ended".to_owned(),
            Err(error) => format!("failed to {}", crate::node::chain(&error)),
        };
        controllers_health.report(Death::of("set of controllers", ended));
    });
    let network = Arc::new(network);
    let addressing = Arc::clone(&network);
    let network_client = client.clone();
    let network_stop = stop.clone();
    let network_health = health.clone();
    tokio::spawn(async move {
        let ended = match addressing
            .run(network_client, request.delays.data_plane, network_stop)
            .await
        {
            Ok(()) => "ended".to_owned(),
            Err(error) => format!("failed to {}", crate::node::chain(&error)),
        };
        network_health.report(Death::of("cluster network", ended));
    });
    let node = Node::start(NodeConfig {
        client,
        network,
        images,
        reaper,
        state_dir: state_dir.to_path_buf(),
        node_name: NODE_NAME.into(),
        health: health.clone(),
        delays: request.delays,
        cgroups: cgroups.to_owned(),
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
