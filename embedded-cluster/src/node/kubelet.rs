//! The [`Node`]: watches the pods bound to it and runs a worker for each. It also answers requests
//! for logs, exec and port-forward.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, Pod, Secret};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::context::NodeContext;
use super::events::EventSink;
use super::exec::Executor;
use super::launcher::Launcher;
use super::pod::{self, PodContext};
use super::reaper::Reaper;
use super::registration;
use super::volumes::{PERSISTENT_VOLUMES, VolumeMaker};
use crate::delays::Delays;
use crate::health::Health;
use crate::images::ImageStore;
use crate::network::{Network, NetworkConfig};
use crate::runtime::{ExecRequest, ExecSession, LogOptions, PodKey, PodRuntime, RuntimeError};

/// The deadline for a connection to a pod's loopback, which either succeeds or is refused at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The path of this executable. The child resolves it, so that it works after the file was replaced
/// or removed.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Settings of a node.
pub struct NodeConfig {
    /// A client for the Kubernetes API.
    pub client: Client,
    /// The network from which pods get their addresses.
    pub network: Arc<Network>,
    /// The store of images; the node never pulls.
    pub images: ImageStore,
    /// A tmpfs of the supervisor; all files of the node are below it.
    pub state_dir: PathBuf,
    /// The Node object's name, as in `spec.nodeName`.
    pub node_name: String,
    /// The reaper of this process, whose `main` must hand [`super::HELPER_ARGUMENT`] to
    /// [`super::helper_main`].
    pub reaper: Arc<Reaper>,
    /// The receiver for failures that the node cannot survive.
    pub(crate) health: Health,
    /// The delays with which the node notices changes.
    pub delays: Delays,
    /// The directory of the cluster's cgroups.
    pub cgroups: String,
}

/// The reasons why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The node's directories or its helper process cannot be created.
    #[error("prepare the node: {what}")]
    Prepare {
        /// The action.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The API refused the Node object.
    #[error("register node {name:?}")]
    Register {
        /// The node's name.
        name: String,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
}

/// The running node. Its watches end when it is dropped; its pods end with the supervisor.
pub struct Node {
    context: Arc<NodeContext>,
    name: String,
    pods: Mutex<BTreeMap<PodKey, Arc<PodContext>>>,
    cancel: CancellationToken,
    _stop: DropGuard,
}

impl Node {
    /// Starts the helper process, registers the node and begins to run its pods.
    ///
    /// # Errors
    /// Fails when a directory, the helper process or the Node object cannot be created.
    pub async fn start(config: NodeConfig) -> Result<Arc<Self>, NodeError> {
        let prepare = |what| move |source| NodeError::Prepare { what, source };
        for directory in ["pods", "run", PERSISTENT_VOLUMES] {
            let directory = config.state_dir.join(directory);
            std::fs::create_dir_all(directory).map_err(prepare("make its directories"))?;
        }
        let launcher = Launcher::start(Path::new(OWN_EXECUTABLE), &config.reaper, config.health.clone())
            .map_err(prepare("start the container helper"))?;
        // Pods see the bridge's address as the node's.
        let ip = NetworkConfig::default().gateway;
        registration::register(config.client.clone(), &config.node_name, ip)
            .await
            .map_err(|source| NodeError::Register {
                name: config.node_name.clone(),
                source: Box::new(source),
            })?;
        let context = Arc::new(NodeContext {
            events: EventSink::start(config.client.clone(), config.node_name.clone()),
            volumes: VolumeMaker::new(config.client.clone(), config.state_dir.clone()),
            client: config.client,
            network: config.network,
            images: config.images,
            executor: Executor {
                launcher: Arc::new(launcher),
                reaper: config.reaper,
            },
            state_dir: config.state_dir,
            health: config.health,
            delays: config.delays,
            cgroups: config.cgroups,
            started: tokio::time::Instant::now(),
            ip,
        });
        let cancel = CancellationToken::new();
        let node = Arc::new(Self {
            context,
            name: config.node_name,
            pods: Mutex::default(),
            cancel: cancel.clone(),
            _stop: cancel.drop_guard(),
        });
        node.watch_pods();
        node.watch_objects::<ConfigMap>();
        node.watch_objects::<Secret>();
        node.watch_persistent_volumes();
        Ok(node)
    }

    fn watch_pods(self: &Arc<Self>) {
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.name));
        let events = watcher(Api::<Pod>::all(self.context.client.clone()), config);
        let weak = Arc::downgrade(self);
        let mut listed = BTreeSet::new();
        self.follow(events, move |event| {
            let Some(node) = weak.upgrade() else { return };
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(pod) => {
                    listed.insert(key(&pod));
                    node.observe(pod);
                }
                Event::InitDone => {
                    let known: Vec<_> = node
                        .pods()
                        .iter()
                        .map(|(key, pod)| (key.clone(), Arc::clone(pod)))
                        .collect();
                    for (_, pod) in known.into_iter().filter(|(key, _)| !listed.contains(key)) {
                        pod.vanish();
                    }
                }
                Event::Apply(pod) => node.observe(pod),
                Event::Delete(pod) => {
                    let known = node.pods().get(&key(&pod)).cloned();
                    if let Some(known) = known {
                        known.vanish();
                    }
                }
            }
        });
    }

    /// Watches ConfigMaps and Secrets, so that pods and containers that wait for one try again.
    fn watch_objects<K>(self: &Arc<Self>)
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Send
            + serde::de::DeserializeOwned
            + 'static,
    {
        let events = watcher(
            Api::<K>::all(self.context.client.clone()),
            watcher::Config::default(),
        );
        let weak = Arc::downgrade(self);
        self.follow(events, move |event| {
            let (Some(node), Event::Apply(object) | Event::Delete(object)) = (weak.upgrade(), event) else {
                return;
            };
            let namespace = object.namespace().unwrap_or_default();
            let concerned: Vec<_> = node
                .pods()
                .iter()
                .filter(|(key, _)| key.namespace == namespace)
                .map(|(_, pod)| Arc::clone(pod))
                .collect();
            for pod in concerned {
                pod.object_changed();
            }
        });
    }

    fn watch_persistent_volumes(self: &Arc<Self>) {
        let events = watcher(
            Api::<PersistentVolume>::all(self.context.client.clone()),
            watcher::Config::default(),
        );
        let context = Arc::clone(&self.context);
        self.follow(events, move |event| {
            if let Event::Delete(volume) = event {
                context.volumes.delete_persistent(&volume);
            }
        });
    }

    fn follow<K: Send + 'static>(
        &self,
        events: impl futures::Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
        mut handle: impl FnMut(Event<K>) + Send + 'static,
    ) {
        let cancel = self.cancel.clone();
        tokio::spawn(async move {
            let mut events = pin!(kube::runtime::WatchStreamExt::default_backoff(events));
            loop {
                let event = tokio::select! {
                    event = events.try_next() => event,
                    () = cancel.cancelled() => return,
                };
                match event {
                    Ok(Some(event)) => handle(event),
                    Ok(None) => return,
                    // The watcher lists again by itself.
                    Err(error) => tracing::warn!(%error, "a watch of the node was interrupted"),
                }
            }
        });
    }

    fn observe(self: &Arc<Self>, pod: Pod) {
        let key = key(&pod);
        let known = self.pods().get(&key).cloned();
        if let Some(known) = known {
            known.observe(pod);
            return;
        }
        let context = PodContext::new(Arc::clone(&self.context), key.clone(), pod);
        self.pods().insert(key.clone(), Arc::clone(&context));
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            pod::run(context).await;
            if let Some(node) = weak.upgrade() {
                node.pods().remove(&key);
            }
        });
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<PodKey, Arc<PodContext>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pod(&self, key: &PodKey, container: &str) -> Result<Arc<PodContext>, RuntimeError> {
        self.pods()
            .get(key)
            .cloned()
            .ok_or_else(|| not_found(key, container))
    }
}

fn key(pod: &Pod) -> PodKey {
    PodKey {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
    }
}

fn not_found(key: &PodKey, container: &str) -> RuntimeError {
    RuntimeError::NotFound {
        namespace: key.namespace.clone(),
        pod: key.name.clone(),
        container: container.to_owned(),
    }
}

impl PodRuntime for Node {
    fn logs(
        &self,
        key: PodKey,
        container: String,
        options: LogOptions,
    ) -> BoxFuture<'_, Result<BoxStream<'static, io::Result<Bytes>>, RuntimeError>> {
        async move {
            let pod = self.pod(&key, &container)?;
            match pod.log(&container, options.previous) {
                None => Err(not_found(&key, &container)),
                Some(Some(log)) => Ok(log.read(options)),
                Some(None) if options.previous => Err(RuntimeError::BadRequest(format!(
                    "previous terminated container {container:?} in pod {:?} not found",
                    key.name
                ))),
                Some(None) => Err(RuntimeError::BadRequest(format!(
                    "container {container:?} in pod {:?} is waiting to start: {}",
                    key.name,
                    pod.waiting_reason(&container)
                ))),
            }
        }
        .boxed()
    }

    fn exec(&self, key: PodKey, request: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        async move {
            let pod = self.pod(&key, &request.container)?;
            match pod.running(&request.container) {
                None => Err(not_found(&key, &request.container)),
                Some(None) => Err(RuntimeError::BadRequest(format!(
                    "container not found (\"{}\")",
                    request.container
                ))),
                Some(Some(running)) => self.context.executor.session(&running, request).await,
            }
        }
        .boxed()
    }

    fn connect(&self, key: PodKey, port: u16) -> BoxFuture<'_, Result<tokio::net::TcpStream, RuntimeError>> {
        async move {
            let pod = self.pod(&key, "")?;
            let sandbox = pod.sandbox().ok_or_else(|| {
                RuntimeError::BadRequest(format!("pod {:?} has no running sandbox", key.name))
            })?;
            let failed = |source| RuntimeError::Io {
                what: format!("connect to port {port} of pod {:?}", key.name),
                source,
            };
            let stream = tokio::task::spawn_blocking(move || sandbox.in_network(move || dial(port)))
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(failed)?;
            stream.set_nonblocking(true).map_err(failed)?;
            tokio::net::TcpStream::from_std(stream).map_err(failed)
        }
        .boxed()
    }
}

/// Connects to `localhost` over IPv4 or IPv6, whichever the server listens on. If neither works,
/// returns the first error.
fn dial(port: u16) -> io::Result<std::net::TcpStream> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let first = std::net::TcpStream::connect_timeout(&v4, CONNECT_TIMEOUT);
    first.or_else(|error| std::net::TcpStream::connect_timeout(&v6, CONNECT_TIMEOUT).map_err(|_| error))
}
