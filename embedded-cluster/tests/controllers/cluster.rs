//! An API server, the controllers, a fake node that reports pods as running, and objects for them.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use embedded_cluster::api::{ApiConfig, ApiServer};
use embedded_cluster::controllers::{self, ControllersConfig};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The deadline of every wait. It only bounds failing tests, because everything runs in process.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) const NAMESPACE: &str = "default";

/// An object of a namespace that a test can wait for.
pub(crate) trait Watched:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static
{
}

impl<K> Watched for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + 'static
{
}

/// An API server, the controllers, and a fake node that reports pods as running.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) volumes: tempfile::TempDir,
    pub(crate) stop: CancellationToken,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        // RUST_LOG shows the controllers' log; another test may already have installed a
        // subscriber.
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

    pub(crate) fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) async fn create<K>(&self, object: Value) -> K
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

    /// Waits until the object of this name meets the condition.
    pub(crate) async fn until<K: Watched>(&self, name: &str, wanted: impl Fn(&K) -> bool) -> K {
        self.until_any(&format!("metadata.name={name}"), "", wanted).await
    }

    /// Waits until any object of these selectors meets the condition.
    pub(crate) async fn until_any<K: Watched>(
        &self,
        fields: &str,
        labels: &str,
        wanted: impl Fn(&K) -> bool,
    ) -> K {
        let mut last = None;
        let config = watcher::Config::default().fields(fields).labels(labels);
        let mut events = watcher(self.api::<K>(), config).boxed();
        let found = tokio::time::timeout(DEADLINE, async {
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

    /// Waits until no object of this kind with these labels is left.
    pub(crate) async fn until_none<K>(&self, api: Api<K>, labels: &str)
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
        let gone = tokio::time::timeout(DEADLINE, async {
            while !left().await.is_empty() {
                events.next().await;
            }
        });
        if gone.await.is_err() {
            let names: Vec<_> = left().await.iter().map(ResourceExt::name_any).collect();
            panic!("{} {labels}: still there: {names:?}", K::kind(&()));
        }
    }

    pub(crate) async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        self.api::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .expect("patched");
    }

    pub(crate) async fn pods(&self, labels: &str) -> Vec<Pod> {
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

/// Reports every bound pod as running and ready (or as its `test/outcome` annotation says), and
/// removes deleted pods.
pub(crate) async fn play_node(client: Client) {
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
            // The pod may be gone already: the node sees each change of a terminating pod.
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

pub(crate) fn container() -> Value {
    json!({"name": "server", "image": "server:1", "ports": [{"name": "client", "containerPort": 6379}]})
}

pub(crate) fn stateful_set(name: &str, replicas: i32, policy: &str) -> Value {
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

pub(crate) fn settled(replicas: i32) -> impl Fn(&StatefulSet) -> bool {
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
