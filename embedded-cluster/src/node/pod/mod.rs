//! One pod on the node: a worker that sets it up, runs its containers in order, publishes its status, and takes
//! it down when it is deleted.
//!
//! | file | what is in it |
//! |---|---|
//! | `board` | what is known about each container, shared by everything here |
//! | `container` | one container through all its instances |
//! | `waiting`, `ending` | what keeps an instance from starting, and how one ends |
//! | `configuration` | environment, command, identity and mounts at the moment an instance starts |
//! | `probe`, `handler` | probe workers, and what probes and hooks do |
//! | `backoff` | when a container may start again |
//! | `status` | the status the API shows, and the phase (pure) |
//! | `worker` | the order in which everything happens |

mod backoff;
mod board;
mod configuration;
mod container;
mod ending;
mod handler;
mod probe;
mod status;
mod waiting;
mod worker;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodIP};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use board::Running;
pub(crate) use worker::run;

use super::context::NodeContext;
use super::logs::ContainerLog;
use super::sandbox::Sandbox;
use super::spec::NamespacePaths;
use super::volumes::PodVolumes;
use crate::runtime::PodKey;
use board::{Board, Record, Role};
use status::Facts;

/// Kubernetes' default for `terminationGracePeriodSeconds`.
const DEFAULT_GRACE: i64 = 30;

/// Everything that works on one pod shares this.
pub(crate) struct PodContext {
    node: Arc<NodeContext>,
    key: PodKey,
    dir: PathBuf,
    board: Board,
    latest: watch::Sender<Latest>,
    facts: Mutex<Facts>,
    sandbox: Mutex<Option<Arc<Sandbox>>>,
    volumes: Mutex<PodVolumes>,
    /// Counts the moments at which the kubelet would sync the pod.
    sync: watch::Sender<u64>,
    /// Counts changes of ConfigMaps and Secrets in the pod's namespace.
    objects_changed: watch::Sender<u64>,
    /// Cancelled when no container of the pod will run again.
    done: CancellationToken,
    /// The status last written.
    published: tokio::sync::Mutex<Option<serde_json::Value>>,
}

/// The pod as the API has it.
#[derive(Clone)]
struct Latest {
    pod: Arc<Pod>,
    /// The object is no longer there at all.
    gone: bool,
}

impl PodContext {
    pub(crate) fn new(node: Arc<NodeContext>, key: PodKey, pod: Pod) -> Arc<Self> {
        let dir = node.state_dir.join("pods").join(&key.uid);
        let facts = Facts {
            host_ip: node.ip.to_string(),
            start_time: Some(Timestamp::now()),
            ..Facts::default()
        };
        Arc::new(Self {
            node,
            key,
            dir,
            board: Board::new(records(&pod)),
            latest: watch::Sender::new(Latest {
                pod: Arc::new(pod),
                gone: false,
            }),
            facts: Mutex::new(facts),
            sandbox: Mutex::default(),
            volumes: Mutex::default(),
            sync: watch::Sender::new(0),
            objects_changed: watch::Sender::new(0),
            done: CancellationToken::new(),
            published: tokio::sync::Mutex::default(),
        })
    }

    /// The API has a new version of the pod.
    pub(crate) fn observe(&self, pod: Pod) {
        let mut spec_changed = false;
        self.latest.send_if_modified(|latest| {
            if version(&pod) <= version(&latest.pod) {
                return false;
            }
            spec_changed = pod.spec != latest.pod.spec
                || pod.metadata.labels != latest.pod.metadata.labels
                || pod.metadata.annotations != latest.pod.metadata.annotations
                || pod.metadata.deletion_timestamp != latest.pod.metadata.deletion_timestamp;
            latest.pod = Arc::new(pod);
            true
        });
        if spec_changed {
            self.synced();
        }
    }

    /// The API no longer has the pod.
    pub(crate) fn vanish(&self) {
        self.latest.send_modify(|latest| latest.gone = true);
    }

    /// A ConfigMap or Secret of the namespace has changed.
    pub(crate) async fn object_changed(&self, name: &str) {
        self.objects_changed.send_modify(|count| *count += 1);
        if self.lock_facts().sandbox_ready
            && let Err(error) = self.node.volumes.refresh(&self.latest(), &self.dir, name).await
        {
            self.warning(None, "FailedMount", super::chain(&error));
        }
    }

    pub(crate) fn sandbox(&self) -> Option<Arc<Sandbox>> {
        self.sandbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn running(&self, container: &str) -> Option<Option<Running>> {
        self.board.look(container, |record| record.running().cloned())
    }

    /// The log of a container's current (or previous) instance; the outer `None` means no such container.
    pub(crate) fn log(&self, container: &str, previous: bool) -> Option<Option<ContainerLog>> {
        self.board.look(container, |record| {
            if previous {
                record.previous_log.clone()
            } else {
                record.log.clone()
            }
        })
    }

    /// Why a container has no log yet.
    pub(crate) fn waiting_reason(&self, container: &str) -> String {
        let reason = self.board.look(container, |record| match &record.state {
            board::State::Waiting { reason, .. } => reason.clone(),
            board::State::Running(_) | board::State::Terminated(_) => String::new(),
        });
        reason.unwrap_or_default()
    }

    fn latest(&self) -> Arc<Pod> {
        Arc::clone(&self.latest.borrow().pod)
    }

    /// The pod with the addresses that its status may not show yet, for the downward API.
    fn pod_with_addresses(&self) -> Pod {
        let mut pod = (*self.latest()).clone();
        let facts = self.lock_facts();
        let status = pod.status.get_or_insert_default();
        status.host_ip = Some(facts.host_ip.clone());
        status.pod_ip.clone_from(&facts.pod_ip);
        status.pod_ips = facts.pod_ip.clone().map(|ip| vec![PodIP { ip }]);
        pod
    }

    fn is_deleted(&self) -> bool {
        let latest = self.latest.borrow();
        latest.gone || latest.pod.metadata.deletion_timestamp.is_some()
    }

    fn restart_policy(&self) -> String {
        let pod = self.latest();
        pod.spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.clone())
            .unwrap_or_else(|| "Always".to_owned())
    }

    fn grace_seconds(&self) -> i64 {
        self.latest()
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(DEFAULT_GRACE)
    }

    fn pod_ip(&self) -> String {
        self.lock_facts().pod_ip.clone().unwrap_or_default()
    }

    fn namespaces(&self) -> Option<NamespacePaths> {
        self.sandbox().map(|sandbox| sandbox.paths())
    }

    fn volumes(&self) -> MutexGuard<'_, PodVolumes> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_facts(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.lock_facts());
        self.board.touch();
    }

    /// Something happened after which the kubelet would look at the whole pod again.
    fn synced(&self) {
        self.sync.send_modify(|count| *count += 1);
    }

    fn normal(&self, container: Option<&str>, reason: &'static str, message: impl Into<String>) {
        self.node
            .events
            .normal(&self.latest(), container, reason, message);
    }

    fn warning(&self, container: Option<&str>, reason: &'static str, message: impl Into<String>) {
        self.node
            .events
            .warning(&self.latest(), container, reason, message);
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.node.client.clone(), &self.key.namespace)
    }

    /// Writes the status, if it differs from what was written last.
    async fn publish(&self) {
        let mut published = self.published.lock().await;
        let pod = self.latest();
        let facts = self.lock_facts().clone();
        let status = status::compose(&pod, &self.board.records(), &facts, Timestamp::now());
        let status = serde_json::to_value(status).expect("a status has string keys only");
        if published.as_ref() == Some(&status) || self.latest.borrow().gone {
            return;
        }
        // The UID keeps this from landing on a successor of the same name.
        let patch = serde_json::json!({"metadata": {"uid": self.key.uid}, "status": status});
        match self
            .api()
            .patch_status(&self.key.name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            Ok(updated) => {
                *published = Some(status);
                self.observe(updated);
            }
            Err(error) => tracing::debug!(pod = self.key.name, %error, "the pod's status was not taken"),
        }
    }

    fn set_address(&self, ip: Ipv4Addr) {
        self.change_facts(|facts| {
            facts.pod_ip = Some(ip.to_string());
            facts.sandbox_ready = true;
        });
    }
}

fn version(pod: &Pod) -> u64 {
    pod.resource_version()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

fn records(pod: &Pod) -> BTreeMap<String, Record> {
    let Some(spec) = &pod.spec else {
        return BTreeMap::new();
    };
    let inits: Vec<_> = spec.init_containers.iter().flatten().collect();
    let reason = if inits.is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    };
    let image =
        |container: &k8s_openapi::api::core::v1::Container| container.image.clone().unwrap_or_default();
    let role = |container: &k8s_openapi::api::core::v1::Container| {
        if container.restart_policy.as_deref() == Some("Always") {
            Role::Sidecar
        } else {
            Role::Init
        }
    };
    let inits = inits
        .into_iter()
        .map(|c| (c.name.clone(), Record::new(role(c), image(c), reason)));
    let mains = spec
        .containers
        .iter()
        .map(|c| (c.name.clone(), Record::new(Role::Main, image(c), reason)));
    let mut records: BTreeMap<String, Record> = inits.chain(mains).collect();
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        if let Some(record) = records.get_mut(&container.name) {
            record.startup = container.startup_probe.as_ref().map(|_| false);
            record.readiness = container.readiness_probe.as_ref().map(|_| false);
        }
    }
    records
}
