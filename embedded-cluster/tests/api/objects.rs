//! Objects through kube-rs: create, read, watch, update, patch, scale, delete, over TLS and in
//! process.

use std::time::Duration;

use crate::server::{self, Server, code, from_json};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_in_see_the_same_objects() {
    let server = Server::start();
    let inside: Api<ConfigMap> = Api::namespaced(server.api.client(), "default");
    let outside: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    let made = inside
        .create(
            &PostParams::default(),
            &from_json(json!({"metadata": {"name": "a"}, "data": {"k": "1"}})),
        )
        .await
        .expect("created");
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(outside.get("a").await.expect("there").data, made.data);
    outside
        .delete("a", &DeleteParams::default())
        .await
        .expect("deleted");
    assert_eq!(code(inside.get("a").await), 404);
    assert_eq!(
        outside
            .list(&ListParams::default())
            .await
            .expect("listed")
            .items
            .len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_shows_each_selected_change_once() {
    let server = Server::start();
    let api: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    let object = |labels: serde_json::Value| {
        from_json::<ConfigMap>(json!({"metadata": {"name": "a", "labels": labels}}))
    };
    let start = api
        .list(&ListParams::default())
        .await
        .expect("listed")
        .metadata
        .resource_version
        .expect("set");
    let watch = api
        .watch(&WatchParams::default().labels("on=yes"), &start)
        .await
        .expect("watching");
    let mut watch = watch.boxed();
    api.create(&PostParams::default(), &object(json!({"on": "no"})))
        .await
        .expect("created");
    for on in ["yes", "yes", "no"] {
        let patch =
            Patch::Merge(json!({"metadata": {"labels": {"on": on, "n": uuid::Uuid::new_v4().to_string()}}}));
        api.patch("a", &PatchParams::default(), &patch)
            .await
            .expect("patched");
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let event = tokio::time::timeout(Duration::from_secs(5), watch.try_next()).await;
        seen.push(
            match event
                .expect("an event within 5 s")
                .expect("no error")
                .expect("the watch goes on")
            {
                WatchEvent::Added(_) => "added",
                WatchEvent::Modified(_) => "modified",
                WatchEvent::Deleted(_) => "deleted",
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(status) => panic!("{status:?}"),
            },
        );
    }
    assert_eq!(seen, ["added", "modified", "deleted"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_updates_conflict() {
    let server = Server::start();
    let api: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    let mut first = api
        .create(
            &PostParams::default(),
            &from_json(json!({"metadata": {"name": "a"}})),
        )
        .await
        .expect("created");
    let mut second = first.clone();
    first.data = Some([("k".to_owned(), "1".to_owned())].into());
    api.replace("a", &PostParams::default(), &first)
        .await
        .expect("replaced");
    second.data = Some([("k".to_owned(), "2".to_owned())].into());
    assert_eq!(code(api.replace("a", &PostParams::default(), &second).await), 409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_spec_are_written_apart() {
    let server = Server::start();
    let api: Api<StatefulSet> = Api::namespaced(server.client(), "default");
    let made = api
        .create(&PostParams::default(), &server::stateful_set("web"))
        .await
        .expect("created");
    assert_eq!(made.metadata.generation, Some(1));
    let status =
        Patch::Merge(json!({"status": {"replicas": 2, "readyReplicas": 1}, "spec": {"replicas": 9}}));
    let made = api
        .patch_status("web", &PatchParams::default(), &status)
        .await
        .expect("patched");
    assert_eq!(made.spec.replicas, Some(2));
    assert_eq!(made.status.expect("status").ready_replicas, Some(1));
    assert_eq!(made.metadata.generation, Some(1));
    let scale = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let scaled = api
        .patch_scale("web", &PatchParams::default(), &scale)
        .await
        .expect("scaled");
    assert_eq!(scaled.spec.expect("spec").replicas, Some(5));
    let after = api.get("web").await.expect("there");
    assert_eq!(after.metadata.generation, Some(2));
    assert_eq!(after.status.expect("status").ready_replicas, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_end_gracefully_and_finalizers_hold() {
    let server = Server::start();
    let api: Api<Pod> = Api::namespaced(server.client(), "default");
    let mut pod = server::pod("a");
    pod.metadata.finalizers = Some(vec!["example.com/held".to_owned()]);
    pod.spec.as_mut().expect("spec").node_name = Some("node".to_owned());
    api.create(&PostParams::default(), &pod).await.expect("created");
    let pending = api
        .delete("a", &DeleteParams::default())
        .await
        .expect("accepted")
        .left()
        .expect("the pod");
    assert_eq!(pending.metadata.deletion_grace_period_seconds, Some(30));
    api.delete("a", &DeleteParams::default().grace_period(0))
        .await
        .expect("accepted");
    assert!(api.get("a").await.is_ok(), "the finalizer holds it");
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("a", &PatchParams::default(), &free)
        .await
        .expect("patched");
    assert_eq!(code(api.get("a").await), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_stays_until_it_is_finalized() {
    let server = Server::start();
    let client = server.client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .create(
            &PostParams::default(),
            &from_json(json!({"metadata": {"name": "n"}})),
        )
        .await
        .expect("created");
    namespaces
        .delete("n", &DeleteParams::default())
        .await
        .expect("accepted");
    let terminating = namespaces.get("n").await.expect("still there");
    assert_eq!(
        terminating.status.expect("status").phase.as_deref(),
        Some("Terminating")
    );
    let maps: Api<ConfigMap> = Api::namespaced(client, "n");
    let refused = maps
        .create(
            &PostParams::default(),
            &from_json(json!({"metadata": {"name": "a"}})),
        )
        .await;
    assert_eq!(code(refused), 403);
    let empty: Namespace = from_json(json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}}));
    namespaces
        .replace_subresource("finalize", "n", &PostParams::default(), &empty)
        .await
        .expect("finalized");
    assert_eq!(code(namespaces.get("n").await), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_of_one_moment() {
    let server = Server::start();
    let api: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    for name in ["a", "b", "c"] {
        let map = from_json(json!({"metadata": {"name": name}}));
        api.create(&PostParams::default(), &map).await.expect("created");
    }
    let first = api.list(&ListParams::default().limit(2)).await.expect("listed");
    assert_eq!(first.metadata.remaining_item_count, Some(1));
    api.delete("c", &DeleteParams::default()).await.expect("deleted");
    let token = first.metadata.continue_.expect("more to come");
    let rest = api
        .list(&ListParams::default().limit(2).continue_token(&token))
        .await
        .expect("listed");
    assert_eq!(
        rest.items[0].metadata.name.as_deref(),
        Some("c"),
        "deleted after the first page was made"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_too_long_ago_is_gone() {
    let server = Server::start();
    let api: Api<ConfigMap> = Api::namespaced(server.api.client(), "default");
    let start = api
        .list(&ListParams::default())
        .await
        .expect("listed")
        .metadata
        .resource_version
        .expect("set");
    api.create(
        &PostParams::default(),
        &from_json(json!({"metadata": {"name": "a"}})),
    )
    .await
    .expect("created");
    for n in 0..1100 {
        let patch = Patch::Merge(json!({"data": {"n": n.to_string()}}));
        api.patch("a", &PatchParams::default(), &patch)
            .await
            .expect("patched");
    }
    let mut watch = api
        .watch(&WatchParams::default(), &start)
        .await
        .expect("watching")
        .boxed();
    match watch
        .try_next()
        .await
        .expect("no transport error")
        .expect("an event")
    {
        WatchEvent::Error(status) => assert_eq!((status.code, status.reason.as_str()), (410, "Expired")),
        other => panic!("expected an error event, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streaming_list_ends_with_a_bookmark() {
    use kube::runtime::watcher::{self, Event};
    let server = Server::start();
    let api: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    api.create(
        &PostParams::default(),
        &from_json(json!({"metadata": {"name": "a"}})),
    )
    .await
    .expect("created");
    let stream = kube::runtime::watcher(api, watcher::Config::default().streaming_lists()).boxed();
    let seen: Vec<String> = tokio::time::timeout(
        Duration::from_secs(5),
        stream
            .take(3)
            .map_ok(|event| match event {
                Event::Init => "init".to_owned(),
                Event::InitApply(map) => map.metadata.name.unwrap_or_default(),
                Event::InitDone => "done".to_owned(),
                other => format!("{other:?}"),
            })
            .try_collect(),
    )
    .await
    .expect("within 5 s")
    .expect("no error");
    assert_eq!(seen, ["init", "a", "done"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_without_a_class_gets_the_default_one() {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use k8s_openapi::api::storage::v1::StorageClass;
    let server = Server::start();
    let client = server.api.client();
    let classes: Api<StorageClass> = Api::all(client.clone());
    let class = json!({"metadata": {"name": "standard",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "example.com/disk"});
    classes
        .create(&PostParams::default(), &from_json(class))
        .await
        .expect("created");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client, "default");
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    let made = claims
        .create(&PostParams::default(), &from_json(claim))
        .await
        .expect("created");
    assert_eq!(
        made.spec.expect("spec").storage_class_name.as_deref(),
        Some("standard")
    );
    let patch = Patch::Merge(json!({"spec": {"accessModes": ["ReadOnlyMany"]}}));
    assert_eq!(
        code(claims.patch("data", &PatchParams::default(), &patch).await),
        422
    );
}
