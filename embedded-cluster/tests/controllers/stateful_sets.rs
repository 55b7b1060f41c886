//! Tests of creation, scaling, updates and deletion of StatefulSets.

use std::time::Instant;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, settled, stateful_set};

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
async fn an_update_replaces_all_pods_a_roll_back_reuses_its_revision() {
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

/// Tests that the controller acts on a set that it remembers as settled after a pod loses its
/// owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resting_set_adopts_a_pod_that_lost_its_owner() {
    let cluster = Cluster::start().await;
    cluster
        .create::<StatefulSet>(stateful_set("valkey", 2, "Parallel"))
        .await;
    let set = cluster.until("valkey", settled(2)).await;
    cluster
        .patch::<Pod>("valkey-1", json!({"metadata": {"ownerReferences": null}}))
        .await;
    let owner = |pod: &Pod| pod.owner_references().first().map(|owner| owner.uid.clone());
    cluster
        .until("valkey-1", |pod: &Pod| owner(pod) == set.uid())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_set_takes_its_pods_and_revisions_along() {
    let cluster = Cluster::start().await;
    let made_and_deleted = async |how: DeleteParams| {
        cluster
            .create::<StatefulSet>(stateful_set("valkey", 2, "Parallel"))
            .await;
        cluster.until("valkey", settled(2)).await;
        let sets = cluster.api::<StatefulSet>();
        sets.delete("valkey", &how).await.expect("deleted");
        cluster.until_none(sets, "").await;
    };
    for how in [DeleteParams::background(), DeleteParams::foreground()] {
        made_and_deleted(how).await;
        cluster.until_none(cluster.api::<Pod>(), "app=valkey").await;
        cluster.until_none(cluster.api::<ControllerRevision>(), "").await;
    }
    made_and_deleted(DeleteParams::orphan()).await;
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
