//! The shared watches: one per kind, each with a store and one common stream of changes.
//!
//! Ten controllers that each watched pods would hold ten copies of every pod. Instead, they share
//! these watches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::ApiResource;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use tokio::sync::{broadcast, watch};

use super::config::ControllersConfig;
use super::events::EventRecorder;
use super::job::Ledger;

/// Number of changes kept for a controller that lags behind. A controller that lags further behind
/// reads everything again.
const CHANGES_KEPT: usize = 4096;

/// One object that was created, modified or deleted.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) object: Object,
    pub(crate) deleted: bool,
}

macro_rules! hub {
    ($($field:ident: $kind:ident = $strip:expr;)+) => {
        /// An object of any watched kind.
        #[derive(Clone)]
        pub(crate) enum Object {
            $($kind(Arc<$kind>),)+
        }

        impl Object {
            /// Returns the object's metadata.
            pub(crate) fn meta(&self) -> &ObjectMeta {
                match self {
                    $(Self::$kind(object) => &object.metadata,)+
                }
            }

            /// Returns the object's kind, for requests by kind.
            pub(crate) fn resource(&self) -> ApiResource {
                match self {
                    $(Self::$kind(_) => ApiResource::erase::<$kind>(&()),)+
                }
            }
        }

        /// The stores of every watched kind, and other data that controllers need.
        pub(crate) struct Hub {
            pub(crate) client: Client,
            pub(crate) config: ControllersConfig,
            changes: broadcast::Sender<Change>,
            /// Pods that the scheduler has bound and the store may not show yet, as in
            /// kube-scheduler's cache. Locked during a decision: two pods that repel each other
            /// must not both find the node empty.
            pub(crate) assumed: tokio::sync::Mutex<Vec<Arc<Pod>>>,
            /// Ledgers of the pods of each Job, by the Job's UID.
            pub(crate) job_ledgers: Mutex<BTreeMap<String, Ledger>>,
            /// Times since when pods have been on a node with a taint that they do not tolerate
            /// forever, by UID.
            tainted: Mutex<BTreeMap<String, Timestamp>>,
            recorders: Mutex<BTreeMap<&'static str, EventRecorder>>,
            filled: watch::Sender<usize>,
            $(pub(crate) $field: Store<$kind>,)+
        }

        impl Hub {
            /// Creates the hub, and the future that keeps it up to date.
            pub(crate) fn new(config: ControllersConfig) -> (Arc<Self>, BoxFuture<'static, ()>) {
                let client = config.client.clone();
                let (changes, _) = broadcast::channel(CHANGES_KEPT);
                let filled = watch::Sender::new(0);
                let outlet = Outlet { changes: changes.clone(), filled: filled.clone() };
                let mut watches: Vec<BoxFuture<'static, ()>> = Vec::new();
                $(
                    let ($field, writer) = reflector::store::<$kind>();
                    watches.push(
                        keep_up(client.clone(), writer, $field.clone(), outlet.clone(), Object::$kind, $strip).boxed(),
                    );
                )+
                let hub = Arc::new(Self { client, config, changes, assumed: Default::default(), job_ledgers: Mutex::default(), tainted: Mutex::default(), recorders: Mutex::default(), filled, $($field,)+ });
                (hub, futures::future::join_all(watches).map(drop).boxed())
            }

            /// Number of kinds that are watched.
            const KINDS: usize = [$(stringify!($kind)),+].len();

            /// Returns every object of every store.
            pub(crate) fn everything(&self) -> Vec<Object> {
                let mut all = Vec::new();
                $(all.extend(self.$field.state().into_iter().map(Object::$kind));)+
                all
            }
        }
    };
}

hub! {
    pods: Pod = keep;
    services: Service = keep;
    endpoint_slices: EndpointSlice = keep;
    endpoints: Endpoints = keep;
    stateful_sets: StatefulSet = keep;
    deployments: Deployment = keep;
    replica_sets: ReplicaSet = keep;
    controller_revisions: ControllerRevision = |revision| revision.data = Default::default();
    jobs: Job = keep;
    disruption_budgets: PodDisruptionBudget = keep;
    claims: PersistentVolumeClaim = keep;
    volumes: PersistentVolume = keep;
    storage_classes: StorageClass = keep;
    namespaces: Namespace = keep;
    nodes: Node = keep;
    service_accounts: ServiceAccount = keep;
    config_maps: ConfigMap = |map| { map.data = None; map.binary_data = None };
    secrets: Secret = |secret| { secret.data = None; secret.string_data = None };
}

/// Keeps the whole object.
fn keep<K>(_: &mut K) {}

impl Hub {
    /// Resolves when every store has its first complete list. Does not use
    /// `Store::wait_until_ready`: if several tasks wait for one store, it wakes only some
    /// (kube-runtime 5.0).
    pub(crate) async fn wait_until_ready(&self) {
        let all = self
            .filled
            .subscribe()
            .wait_for(|filled| *filled >= Self::KINDS)
            .await
            .map(drop);
        all.expect("the hub holds the sender");
    }

    /// Returns the time since when a pod should leave its node: `now` or earlier. Without `now`,
    /// the pod no longer needs to leave.
    pub(crate) fn tainted_since(&self, uid: &str, now: Option<Timestamp>) -> Option<Timestamp> {
        let mut tainted = self.tainted.lock().unwrap_or_else(PoisonError::into_inner);
        match now {
            Some(now) => Some(*tainted.entry(uid.to_owned()).or_insert(now)),
            None => tainted.remove(uid),
        }
    }

    /// Returns a receiver of all later changes.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Returns the recorder of events that come from `component`.
    pub(crate) fn events(&self, component: &'static str) -> EventRecorder {
        let mut recorders = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
        recorders
            .entry(component)
            .or_insert_with(|| EventRecorder::new(self.client.clone(), component))
            .clone()
    }

    /// Returns the API client for a namespaced kind.
    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// The destination for the events of a watch.
#[derive(Clone)]
struct Outlet {
    changes: broadcast::Sender<Change>,
    /// Number of stores that have had their first complete list.
    filled: watch::Sender<usize>,
}

async fn keep_up<K>(
    client: Client,
    writer: reflector::store::Writer<K>,
    store: Store<K>,
    outlet: Outlet,
    wrap: fn(Arc<K>) -> Object,
    strip: fn(&mut K),
) where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let strip = move |object: &mut K| {
        object.meta_mut().managed_fields = None;
        strip(object);
    };
    let api = Api::<K>::all(client);
    let mut events = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(strip)
        .reflect(writer)
        .boxed();
    // There may be no receiver yet: controllers begin with the content of the stores.
    let tell = |object, deleted| {
        drop(outlet.changes.send(Change {
            object: wrap(object),
            deleted,
        }));
    };
    let mut filled = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object)) => tell(Arc::new(object), false),
            Ok(watcher::Event::Delete(object)) => tell(Arc::new(object), true),
            // A relist may hide a deletion. Garbage collection and the resync of controllers make
            // up for this.
            Ok(watcher::Event::InitDone) => {
                if !std::mem::replace(&mut filled, true) {
                    outlet.filled.send_modify(|filled| *filled += 1);
                }
                store.state().into_iter().for_each(|object| tell(object, false));
            }
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
            Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "a watch failed and is retried"),
        }
    }
}
