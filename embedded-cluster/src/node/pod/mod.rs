//! One pod on the node. Its worker sets it up, runs its containers in order, publishes its status,
//! and removes it when it is deleted.
//!
//! | file | what is in it |
//! |---|---|
//! | `container_records` | the known state of each container, shared by all parts |
//! | `container` | one container through all its instances |
//! | `waiting`, `ending` | reasons that keep an instance from starting, and the end of one |
//! | `configuration` | environment, command, identity and mounts at the moment an instance starts |
//! | `probe`, `handler` | probe workers, and the actions of probes and hooks |
//! | `backoff` | the time at which a container may start again |
//! | `status` | the status and phase that the API shows (pure) |
//! | `sync` | updates of mounted ConfigMaps and Secrets |
//! | `worker` | the order of all steps in the life of a pod |

mod backoff;
mod configuration;
mod container;
mod container_records;
mod ending;
mod handler;
mod probe;
mod status;
mod sync;
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

pub(crate) use container_records::Running;
pub(crate) use worker::run;

use super::context::NodeContext;
use super::logs::ContainerLog;
use super::sandbox::Sandbox;
use super::spec::NamespacePaths;
use super::volumes::PodVolumes;
use crate::runtime::PodKey;
use container_records::{ContainerRecords, Record, Role};
use status::Facts;

/// Kubernetes' default for `terminationGracePeriodSeconds`.
const DEFAULT_GRACE: i64 = 30;

/// The state that all parts working on one pod share.
pub(crate) struct PodContext {
    node: Arc<NodeContext>,
    key: PodKey,
    dir: PathBuf,
    records: ContainerRecords,
    latest: watch::Sender<Latest>,
    facts: Mutex<Facts>,
    sandbox: Mutex<Option<Arc<Sandbox>>>,
    volumes: Mutex<PodVolumes>,
    /// Number of times that the kubelet would have synced the pod.
    sync: watch::Sender<u64>,
    /// Number of changes of ConfigMaps and Secrets in the pod's namespace.
    objects_changed: watch::Sender<u64>,
    /// A token that is cancelled when no container of the pod will run again.
    done: CancellationToken,
    /// The status last written.
    published: tokio::sync::Mutex<Option<serde_json::Value>>,
}

/// The pod as the API has it.
#[derive(Clone)]
struct Latest {
    pod: Arc<Pod>,
    /// True if the object no longer exists.
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
            records: ContainerRecords::new(records(&pod)),
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

    /// Records a new version of the pod from the API.
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

    /// Records that the API no longer has the pod.
    pub(crate) fn vanish(&self) {
        self.latest.send_modify(|latest| latest.gone = true);
    }

    /// Records that a ConfigMap or Secret of the namespace has changed. Volumes follow at the next
    /// sync.
    pub(crate) fn object_changed(&self) {
        self.objects_changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn sandbox(&self) -> Option<Arc<Sandbox>> {
        self.sandbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn running(&self, container: &str) -> Option<Option<Running>> {
        self.records.look(container, |record| {
            record.running().or(record.starting.as_ref()).cloned()
        })
    }

    /// Returns the log of a container's current (or previous) instance. The outer `None` means that
    /// there is no such container.
    pub(crate) fn log(&self, container: &str, previous: bool) -> Option<Option<ContainerLog>> {
        self.records.look(container, |record| {
            if previous {
                record.previous_log.clone()
            } else {
                record.log.clone()
            }
        })
    }

    /// Returns the reason why a container has no log yet.
    pub(crate) fn waiting_reason(&self, container: &str) -> String {
        let reason = self.records.look(container, |record| match &record.state {
            container_records::RunState::Waiting { reason, .. } => reason.clone(),
            container_records::RunState::Running(_) | container_records::RunState::Terminated(_) => {
                String::new()
            }
        });
        reason.unwrap_or_default()
    }

    fn latest(&self) -> Arc<Pod> {
        Arc::clone(&self.latest.borrow().pod)
    }

    /// Returns the pod with the addresses that its status may not show yet, for the downward API.
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
        self.records.touch();
    }

    /// Records an event after which the kubelet would sync the whole pod.
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

    /// Writes the status if it differs from the last one written.
    async fn publish(&self) {
        let mut published = self.published.lock().await;
        let pod = self.latest();
        let facts = self.lock_facts().clone();
        let status = status::compose(&pod, &self.records.records(), &facts, Timestamp::now());
        let status = serde_json::to_value(status).expect("a status has string keys only");
        if published.as_ref() == Some(&status) || self.latest.borrow().gone {
            return;
        }
        // The UID prevents a write to a successor with the pod's name.
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
            Err(error) => tracing::debug!(pod = self.key.name, %error, "the API refused the pod's status"),
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
