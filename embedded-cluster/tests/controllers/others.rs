//! Tests of Jobs, endpoints, claims, scheduling, budgets and namespaces.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Endpoints, Event, Namespace, PersistentVolume, PersistentVolumeClaim, Pod, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::cluster::{Cluster, DEADLINE, container, settled, stateful_set};

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
async fn a_deleted_claim_stays_until_its_pod_is_gone_then_loses_data() {
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
    let not_helpful = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "by-hand"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}});
    cluster.create::<PersistentVolumeClaim>(claim).await;
    let volume = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "by-hand"}}]);
    for (name, wish, why) in [
        (
            "picky",
            json!({"nodeSelector": {"disk": "ssd"}}),
            "1 node(s) didn't match Pod's node affinity/selector",
        ),
        (
            "stranded",
            json!({"volumes": volume}),
            "pod has unbound immediate PersistentVolumeClaims",
        ),
    ] {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": wish});
        pod["spec"]["containers"] = json!([container()]);
        cluster.create::<Pod>(pod).await;
        let why = format!("0/1 nodes are available: {why}. {not_helpful}");
        let pending = cluster
            .until(name, |pod: &Pod| {
                let status = pod.status.iter();
                let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
                conditions.any(|condition| {
                    condition.reason.as_deref() == Some("Unschedulable")
                        && condition.message.as_deref() == Some(why.as_str())
                })
            })
            .await;
        assert!(pending.spec.is_some_and(|spec| spec.node_name.is_none()));
    }
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

/// Creates all pods at once, to test that the scheduler does not bind two of them concurrently.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_pods_that_repel_each_other_a_node_gets_one() {
    let cluster = Cluster::start().await;
    let apart = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "alone"}}, "topologyKey": "kubernetes.io/hostname"}]}});
    let names: Vec<String> = (0..8).map(|ordinal| format!("alone-{ordinal}")).collect();
    let created = names.iter().map(|name| {
        let metadata = json!({"name": name, "labels": {"app": "alone"}});
        cluster.create::<Pod>(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"affinity": apart, "containers": [container()]}}))
    });
    futures::future::join_all(created).await;
    let is_bound = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let mut bound = 0;
    for name in &names {
        let decided = cluster.until(name, |pod: &Pod| {
            let conditions = pod
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten());
            let refused = conditions
                .into_iter()
                .any(|condition| condition.reason.as_deref() == Some("Unschedulable"));
            is_bound(pod) || refused
        });
        bound += usize::from(is_bound(&decided.await));
    }
    assert_eq!(bound, 1);
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
    tokio::time::timeout(DEADLINE, running)
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_pod_deleted_by_hand_has_failed() {
    let cluster = Cluster::start().await;
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "strict"}, "spec": {"backoffLimit": 0,
        "template": {"spec": {"restartPolicy": "Never", "containers": [container()]}}}});
    cluster.create::<Job>(job).await;
    let of_job = "job-name=strict";
    let pod = cluster
        .until_any("", of_job, |pod: &Pod| {
            pod.status
                .as_ref()
                .and_then(|status| status.pod_ip.as_ref())
                .is_some()
        })
        .await;
    let name = pod.metadata.name.expect("a name");
    cluster
        .api::<Pod>()
        .delete(&name, &DeleteParams::default())
        .await
        .expect("deleted");
    let failed = cluster
        .until("strict", |job: &Job| {
            let conditions = job
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|c| c.type_ == "Failed" && c.status == "True")
        })
        .await;
    let status = failed.status.expect("a status");
    assert_eq!((status.failed, status.active), (Some(1), None));
    assert!(cluster.pods(of_job).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_no_execute_taint_drives_pods_away() {
    let cluster = Cluster::start().await;
    for (name, tolerations) in [
        ("goes", json!([])),
        ("stays", json!([{"key": "sick", "operator": "Exists"}])),
    ] {
        let spec = json!({"tolerations": tolerations, "containers": [container()]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"name": name}}, "spec": spec});
        cluster.create::<Pod>(pod).await;
        cluster
            .until(name, |pod: &Pod| {
                pod.status
                    .as_ref()
                    .and_then(|status| status.pod_ip.as_ref())
                    .is_some()
            })
            .await;
    }
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(cluster.client.clone());
    let taint = json!({"spec": {"taints": [{"key": "sick", "effect": "NoExecute"}]}});
    nodes
        .patch(
            "node",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(taint),
        )
        .await
        .expect("tainted");
    cluster.until_none(cluster.api::<Pod>(), "name=goes").await;
    let left = cluster.pods("name=stays").await;
    assert!(left[0].metadata.deletion_timestamp.is_none());
    cluster
        .until_any("", "", |event: &Event| {
            event.reason.as_deref() == Some("TaintManagerEviction")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_and_scales() {
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
    let cluster = Cluster::start().await;
    let labels = json!({"app": "web"});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 3,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container()]}}}});
    let complete = |replicas: i32| {
        move |deployment: &Deployment| {
            let status = deployment.status.clone().unwrap_or_default();
            let all = Some(replicas);
            status.observed_generation == deployment.metadata.generation
                && (
                    status.replicas,
                    status.updated_replicas,
                    status.available_replicas,
                    status.unavailable_replicas,
                ) == (all, all, all, None)
        }
    };
    cluster.create::<Deployment>(deployment).await;
    cluster.until("web", complete(3)).await;
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}});
    cluster.patch::<Deployment>("web", template).await;
    let done = cluster.until("web", complete(3)).await;
    let conditions = done
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    assert!(
        conditions
            .iter()
            .any(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable")),
        "{conditions:?}"
    );
    let sets = cluster
        .api::<ReplicaSet>()
        .list(&ListParams::default())
        .await
        .expect("listed")
        .items;
    let mut replicas: Vec<_> = sets.iter().filter_map(|set| set.spec.replicas).collect();
    replicas.sort_unstable();
    assert_eq!(replicas, [0, 3]);
    cluster
        .patch::<Deployment>("web", json!({"spec": {"replicas": 1}}))
        .await;
    cluster.until("web", complete(1)).await;
    cluster
        .api::<Deployment>()
        .delete("web", &DeleteParams::background())
        .await
        .expect("deleted");
    cluster.until_none(cluster.api::<Pod>(), "app=web").await;
    cluster.until_none(cluster.api::<ReplicaSet>(), "").await;
}
