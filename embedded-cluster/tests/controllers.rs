//! The controllers against the real API server, with a node that only says pods run: no process, no namespace.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use embedded_cluster::api::{ApiConfig, ApiServer};
use embedded_cluster::controllers::{self, ControllersConfig};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Everything here happens in process; this only bounds a failing test.
const PATIENCE: Duration = Duration::from_secs(10);
const NAMESPACE: &str = "default";

/// An API server, the controllers, and a node that says pods run.
struct Cluster {
    client: Client,
    volumes: tempfile::TempDir,
    stop: CancellationToken,
}

impl Cluster {
    async fn start() -> Self {
        // RUST_LOG shows what the controllers say; another test may have set it up already.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
        let client = ApiServer::new(ApiConfig::default()).client();
        let volumes = tempfile::tempdir().expect("a temporary directory");
        let stop = CancellationToken::new();
        let config = ControllersConfig {
            client: client.clone(),
            volumes_dir: volumes.path().to_owned(),
            ca_certificate: "a certificate".into(),
        };
        let token = stop.clone();
        tokio::spawn(async move { controllers::run(config, token).await.expect("controllers start") });
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node", "labels": {"kubernetes.io/hostname": "node"}}});
        let node: Node = serde_json::from_value(node).expect("a Node");
        Api::all(client.clone())
            .create(&PostParams::default(), &node)
            .await
            .expect("a node");
        tokio::spawn(stop.clone().run_until_cancelled_owned(play_node(client.clone())));
        let cluster = Self {
            client,
            volumes,
            stop,
        };
        cluster
            .until("kube-root-ca.crt", |map: &ConfigMap| map.data.is_some())
            .await;
        cluster
            .until("default", |_: &k8s_openapi::api::core::v1::ServiceAccount| true)
            .await;
        cluster
    }

    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + Debug
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).expect("an object of this kind");
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .expect("created")
    }

    /// Waits for the object of this name to be as wanted.
    async fn until<K>(&self, name: &str, wanted: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + Debug
            + Send
            + 'static,
    {
        self.until_any(&format!("metadata.name={name}"), "", wanted).await
    }

    /// Waits for any object of these selectors to be as wanted.
    async fn until_any<K>(&self, fields: &str, labels: &str, wanted: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + Debug
            + Send
            + 'static,
    {
        let mut last = None;
        let config = watcher::Config::default().fields(fields).labels(labels);
        let mut events = watcher(self.api::<K>(), config).boxed();
        let found = tokio::time::timeout(PATIENCE, async {
            while let Some(event) = events.next().await {
                if let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event {
                    if wanted(&object) {
                        return object;
                    }
                    last = Some(object);
                }
            }
            panic!("the watch ended");
        });
        match found.await {
            Ok(object) => object,
            Err(_) => panic!(
                "{} {fields} {labels} never came to be as wanted; last seen: {last:#?}",
                K::kind(&())
            ),
        }
    }

    /// Waits for no object of this kind to be left under these labels.
    async fn until_none<K>(&self, api: Api<K>, labels: &str)
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
    {
        let mut events = watcher(api.clone(), watcher::Config::default().labels(labels)).boxed();
        let left = || async {
            api.list(&ListParams::default().labels(labels))
                .await
                .expect("listed")
                .items
        };
        let gone = tokio::time::timeout(PATIENCE, async {
            while !left().await.is_empty() {
                events.next().await;
            }
        });
        if gone.await.is_err() {
            let names: Vec<_> = left().await.iter().map(ResourceExt::name_any).collect();
            panic!("{} {labels}: still there: {names:?}", K::kind(&()));
        }
    }

    async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        self.api::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .expect("patched");
    }

    async fn pods(&self, labels: &str) -> Vec<Pod> {
        self.api::<Pod>()
            .list(&ListParams::default().labels(labels))
            .await
            .expect("listed")
            .items
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Says that every bound pod runs and is ready (or what its `test/outcome` annotation says), and lets deleted ones go.
async fn play_node(client: Client) {
    static NEXT: AtomicU32 = AtomicU32::new(2);
    let mut events = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = event else {
            continue;
        };
        if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) {
            continue;
        }
        let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        if pod.metadata.deletion_timestamp.is_some() {
            // It may be gone already: the node is told of each change of a pod that goes.
            let _ = api
                .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                .await;
        } else if pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.as_ref())
            .is_none()
        {
            let outcome = pod
                .annotations()
                .get("test/outcome")
                .cloned()
                .unwrap_or_else(|| "Running".into());
            let ready = if outcome == "Running" { "True" } else { "False" };
            let status = json!({"status": {
                "phase": outcome, "podIP": format!("10.244.0.{}", NEXT.fetch_add(1, Ordering::Relaxed)),
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            }});
            let patched = api
                .patch_status(
                    &pod.name_any(),
                    &PatchParams::default(),
                    &Patch::Strategic(status),
                )
                .await;
            drop(patched);
        }
    }
}

fn container() -> Value {
    json!({"name": "server", "image": "server:1", "ports": [{"name": "client", "containerPort": 6379}]})
}

fn stateful_set(name: &str, replicas: i32, policy: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "podManagementPolicy": policy, "serviceName": format!("{name}-headless"),
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
            {"name": "server", "image": "server:1", "ports": [{"name": "client", "containerPort": 6379}],
             "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
    }})
}

fn settled(replicas: i32) -> impl Fn(&StatefulSet) -> bool {
    move |set| {
        let status = set.status.clone().unwrap_or_default();
        let all = Some(replicas);
        status.observed_generation == set.metadata.generation
            && status.replicas == replicas
            && (
                status.ready_replicas,
                status.updated_replicas,
                status.current_replicas,
                status.available_replicas,
            ) == (all, all, all, all)
            && status.current_revision == status.update_revision
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parallel_set_forms_scales_down_and_keeps_its_claims() {
    let cluster = Cluster::start().await;
    let begun = Instant::now();
    cluster
        .create::<StatefulSet>(stateful_set("valkey", 6, "Parallel"))
        .await;
    cluster.until("valkey", settled(6)).await;
    println!(
        "six pods with claims ran {:?} after the set was created",
        begun.elapsed()
    );
    let claim = cluster
        .api::<PersistentVolumeClaim>()
        .get("data-valkey-3")
        .await
        .expect("a claim");
    assert_eq!(
        claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.as_deref()),
        Some("standard")
    );
    assert_eq!(
        claim
            .annotations()
            .get("volume.kubernetes.io/selected-node")
            .map(String::as_str),
        Some("node")
    );
    assert_eq!(
        claim.status.and_then(|status| status.phase).as_deref(),
        Some("Bound")
    );
    assert_eq!(
        std::fs::read_dir(cluster.volumes.path())
            .expect("readable")
            .count(),
        6
    );
    cluster
        .patch::<StatefulSet>("valkey", json!({"spec": {"replicas": 2}}))
        .await;
    cluster.until("valkey", settled(2)).await;
    let mut left: Vec<_> = cluster
        .pods("app=valkey")
        .await
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    left.sort();
    assert_eq!(left, ["valkey-0", "valkey-1"]);
    assert_eq!(
        cluster
            .api::<PersistentVolumeClaim>()
            .list(&ListParams::default())
            .await
            .expect("listed")
            .items
            .len(),
        6
    );
    let message = "create Pod valkey-0 in StatefulSet valkey successful";
    cluster
        .until_any("", "", |event: &Event| event.message.as_deref() == Some(message))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_replaces_every_pod_and_a_roll_back_reuses_the_revision() {
    let cluster = Cluster::start().await;
    cluster
        .create::<StatefulSet>(stateful_set("valkey", 3, "OrderedReady"))
        .await;
    let before = cluster
        .until("valkey", settled(3))
        .await
        .status
        .and_then(|status| status.current_revision);
    let uids = |pods: Vec<Pod>| {
        pods.iter()
            .filter_map(ResourceExt::uid)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let old = uids(cluster.pods("app=valkey").await);
    let annotate = |value: Value| json!({"spec": {"template": {"metadata": {"annotations": {"checksum/config": value}}}}});
    cluster.patch::<StatefulSet>("valkey", annotate(json!("2"))).await;
    let updated = cluster.until("valkey", |set| {
        settled(3)(set)
            && set
                .status
                .as_ref()
                .and_then(|status| status.current_revision.as_ref())
                != before.as_ref()
    });
    updated.await;
    assert!(
        uids(cluster.pods("app=valkey").await).is_disjoint(&old),
        "every pod is a new one"
    );
    cluster
        .patch::<StatefulSet>("valkey", annotate(Value::Null))
        .await;
    cluster
        .until("valkey", |set: &StatefulSet| {
            settled(3)(set)
                && set
                    .status
                    .as_ref()
                    .and_then(|status| status.current_revision.as_ref())
                    == before.as_ref()
        })
        .await;
    let revisions = cluster
        .api::<ControllerRevision>()
        .list(&ListParams::default())
        .await
        .expect("listed")
        .items;
    assert_eq!(revisions.len(), 2, "rolling back makes no third revision");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_set_takes_its_pods_and_revisions_along() {
    let cluster = Cluster::start().await;
    for how in [DeleteParams::background(), DeleteParams::foreground()] {
        cluster
            .create::<StatefulSet>(stateful_set("valkey", 2, "Parallel"))
            .await;
        cluster.until("valkey", settled(2)).await;
        cluster
            .api::<StatefulSet>()
            .delete("valkey", &how)
            .await
            .expect("deleted");
        cluster.until_none(cluster.api::<StatefulSet>(), "").await;
        cluster.until_none(cluster.api::<Pod>(), "app=valkey").await;
        cluster.until_none(cluster.api::<ControllerRevision>(), "").await;
    }
    cluster
        .create::<StatefulSet>(stateful_set("valkey", 2, "Parallel"))
        .await;
    cluster.until("valkey", settled(2)).await;
    cluster
        .api::<StatefulSet>()
        .delete("valkey", &DeleteParams::orphan())
        .await
        .expect("deleted");
    cluster.until_none(cluster.api::<StatefulSet>(), "").await;
    let orphans = cluster.pods("app=valkey").await;
    assert_eq!(orphans.len(), 2);
    assert!(
        orphans
            .iter()
            .all(|pod| pod.owner_references().is_empty() && pod.metadata.deletion_timestamp.is_none())
    );
    cluster
        .create::<StatefulSet>(stateful_set("valkey", 2, "Parallel"))
        .await;
    cluster.until("valkey", settled(2)).await;
    assert_eq!(
        cluster.pods("app=valkey").await.len(),
        2,
        "the orphans were adopted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_complete_and_fail() {
    let cluster = Cluster::start().await;
    let job = |name: &str, outcome: &str| {
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"backoffLimit": 0,
            "template": {"metadata": {"annotations": {"test/outcome": outcome}},
                "spec": {"restartPolicy": "Never", "containers": [container()]}}}})
    };
    let condition = |job: &Job, kind: &str| {
        job.status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|c| c.type_ == kind && c.status == "True")
    };
    cluster.create::<Job>(job("good", "Succeeded")).await;
    let good = cluster
        .until("good", |job: &Job| condition(job, "Complete"))
        .await;
    assert!(condition(&good, "SuccessCriteriaMet"));
    let status = good.status.expect("a status");
    assert_eq!((status.succeeded, status.active.unwrap_or(0)), (Some(1), 0));
    cluster.create::<Job>(job("bad", "Failed")).await;
    let bad = cluster.until("bad", |job: &Job| condition(job, "Failed")).await;
    assert!(condition(&bad, "FailureTarget"));
    cluster
        .until_any("", "", |event: &Event| {
            event.reason.as_deref() == Some("BackoffLimitExceeded")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_pods() {
    let cluster = Cluster::start().await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "valkey-headless"}, "spec": {
        "clusterIP": "None", "selector": {"app": "valkey"}, "ports": [{"name": "valkey", "port": 6379, "targetPort": "client"}]}});
    cluster.create::<Service>(service).await;
    cluster
        .create::<StatefulSet>(stateful_set("valkey", 2, "Parallel"))
        .await;
    let of_service = "kubernetes.io/service-name=valkey-headless";
    let hostnames = |slice: &EndpointSlice| {
        let ready = slice
            .endpoints
            .iter()
            .flatten()
            .filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true));
        ready
            .filter_map(|endpoint| endpoint.hostname.clone())
            .collect::<Vec<_>>()
    };
    let slice = cluster
        .until_any("", of_service, |slice| {
            hostnames(slice) == ["valkey-0", "valkey-1"]
        })
        .await;
    assert_eq!(
        slice.ports.iter().flatten().next().and_then(|port| port.port),
        Some(6379)
    );
    cluster
        .patch::<StatefulSet>("valkey", json!({"spec": {"replicas": 1}}))
        .await;
    cluster
        .until_any("", of_service, |slice| hostnames(slice) == ["valkey-0"])
        .await;
    cluster
        .api::<Service>()
        .delete("valkey-headless", &DeleteParams::default())
        .await
        .expect("deleted");
    cluster
        .until_none(cluster.api::<EndpointSlice>(), of_service)
        .await;
    cluster.until_none(cluster.api::<Endpoints>(), "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_outlives_its_deletion_until_its_pod_is_gone_and_takes_its_data_along() {
    let cluster = Cluster::start().await;
    cluster
        .create::<StatefulSet>(stateful_set("valkey", 1, "Parallel"))
        .await;
    cluster.until("valkey", settled(1)).await;
    cluster
        .api::<PersistentVolumeClaim>()
        .delete("data-valkey-0", &DeleteParams::default())
        .await
        .expect("accepted");
    let held = cluster
        .api::<PersistentVolumeClaim>()
        .get("data-valkey-0")
        .await
        .expect("still there");
    assert!(held.metadata.deletion_timestamp.is_some());
    cluster
        .api::<StatefulSet>()
        .delete("valkey", &DeleteParams::background())
        .await
        .expect("deleted");
    cluster
        .until_none(cluster.api::<PersistentVolumeClaim>(), "")
        .await;
    cluster
        .until_none(Api::<PersistentVolume>::all(cluster.client.clone()), "")
        .await;
    assert_eq!(
        std::fs::read_dir(cluster.volumes.path())
            .expect("readable")
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_scheduled_says_why_and_budgets_count() {
    let cluster = Cluster::start().await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "picky"},
        "spec": {"nodeSelector": {"disk": "ssd"}, "containers": [container()]}});
    cluster.create::<Pod>(pod).await;
    let why = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. \
               preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    let pending = cluster
        .until("picky", |pod: &Pod| {
            let conditions = pod
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|c| c.reason.as_deref() == Some("Unschedulable") && c.message.as_deref() == Some(why))
        })
        .await;
    assert!(pending.spec.is_some_and(|spec| spec.node_name.is_none()));
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "valkey"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "valkey"}}}});
    cluster.create::<PodDisruptionBudget>(budget).await;
    cluster
        .create::<StatefulSet>(stateful_set("valkey", 3, "Parallel"))
        .await;
    let full = cluster
        .until("valkey", |budget: &PodDisruptionBudget| {
            budget
                .status
                .as_ref()
                .and_then(|status| status.disruptions_allowed)
                == Some(1)
        })
        .await;
    let status = full.status.expect("a status");
    assert_eq!(
        (
            status.expected_pods,
            status.desired_healthy,
            status.current_healthy
        ),
        (Some(3), Some(2), Some(3))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_namespace_is_emptied_first() {
    let cluster = Cluster::start().await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let shop: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "shop", "labels": {"test": "shop"}}}))
            .expect("a Namespace");
    namespaces
        .create(&PostParams::default(), &shop)
        .await
        .expect("created");
    let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), "shop");
    let set: StatefulSet =
        serde_json::from_value(stateful_set("valkey", 2, "Parallel")).expect("a StatefulSet");
    sets.create(&PostParams::default(), &set).await.expect("created");
    let running = kube::runtime::wait::await_condition(sets, "valkey", |set: Option<&StatefulSet>| {
        set.is_some_and(settled(2))
    });
    tokio::time::timeout(PATIENCE, running)
        .await
        .expect("runs in time")
        .expect("watched");
    namespaces
        .delete("shop", &DeleteParams::default())
        .await
        .expect("accepted");
    cluster.until_none(namespaces, "test=shop").await;
    let claims = Api::<PersistentVolumeClaim>::namespaced(cluster.client.clone(), "shop");
    assert!(
        claims
            .list(&ListParams::default())
            .await
            .expect("listed")
            .items
            .is_empty()
    );
}
