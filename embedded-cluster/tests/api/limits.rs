//! Huge numbers, and clients that never stop reading. Everything is bounded, and other clients are
//! still served.

use crate::fake_node::FakeNode;
use crate::server::{self, Server, code, from_json, running_pod};
use embedded_cluster::api::{Denial, Identity, Token};
use http::{Method, Request, StatusCode, header};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_overflow_are_refused_or_bounded() {
    let server = Server::start();
    server.api.set_pod_runtime(FakeNode::shared(None));
    let client = server.client();
    running_pod(&client, "a").await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");

    let mut late = server::pod("late");
    late.spec.as_mut().expect("spec").active_deadline_seconds = Some(1_000_000_000_000);
    let error = pods
        .create(&PostParams::default(), &late)
        .await
        .expect_err("beyond the range");
    let expected = "spec.activeDeadlineSeconds: Invalid value: 1000000000000: must be between 1 and 2147483647, inclusive";
    assert!(error.to_string().contains(expected), "{error}");

    let log = LogParams {
        since_seconds: Some(i64::MAX),
        ..LogParams::default()
    };
    pods.logs("a", &log).await.expect("everything since a century");

    let deleted = pods
        .delete("a", &DeleteParams::default().grace_period(u32::MAX))
        .await;
    let marked = deleted.expect("accepted").left().expect("it runs on a node");
    assert!(marked.metadata.deletion_timestamp.is_some());
    let mut patient = server::pod("patient");
    let spec = patient.spec.as_mut().expect("spec");
    (spec.termination_grace_period_seconds, spec.node_name) = (Some(i64::MAX), Some("node".to_owned()));
    pods.create(&PostParams::default(), &patient)
        .await
        .expect("Kubernetes takes it");
    pods.delete("patient", &DeleteParams::default())
        .await
        .expect("bounded");

    let endless = format!("/api/v1/pods?watch=1&timeoutSeconds={}", i64::MAX);
    let request = Request::get(endless).body(Body::empty()).expect("a request");
    let response = client.send(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);

    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let mut set = serde_json::to_value(server::stateful_set("far")).expect("JSON");
    set["spec"]["ordinals"] = json!({"start": i32::MAX});
    let request = Request::post(sets).header(header::CONTENT_TYPE, "application/json");
    let made: Value = client
        .request(request.body(set.to_string().into_bytes()).expect("a request"))
        .await
        .expect("created");
    assert_eq!(made["spec"]["ordinals"]["start"], i32::MAX);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_of_strangers_do_not_shut_others_out() {
    let server = Server::start();
    let mut idle = Vec::new();
    for _ in 0..600 {
        idle.push(TcpStream::connect(server.address).await.expect("connected"));
    }
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    pods.list(&ListParams::default()).await.expect("still serving");
    let closed = tokio::time::timeout(std::time::Duration::from_secs(10), idle[0].read(&mut [0])).await;
    let read = closed.expect("the oldest is closed for the newest");
    assert!(!matches!(read, Ok(1..)), "{read:?}");
    let newest = idle.last_mut().expect("600 of them");
    let open = tokio::time::timeout(std::time::Duration::from_millis(100), newest.read(&mut [0])).await;
    assert!(open.is_err(), "the newest may still say who it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_not_create_an_exec_may_not_get_one_either() {
    let denied: Vec<Denial> = ["create:pods/exec", "create:pods/portforward"]
        .map(|text| text.parse().expect("a denial"))
        .into();
    let identity = Identity {
        user: "limited".to_owned(),
        groups: Vec::new(),
        denied,
    };
    let server = Server::start_with(vec![Token {
        secret: "limited-token".to_owned(),
        identity,
    }]);
    server.api.set_pod_runtime(FakeNode::shared(None));
    running_pod(&server.client(), "a").await;
    let limited = server.client_with("limited-token");
    for subresource in ["exec?command=cat&stdout=1", "portforward?ports=1"] {
        for method in [Method::GET, Method::POST] {
            let request = Request::builder()
                .method(method)
                .uri(format!("/api/v1/namespaces/default/pods/a/{subresource}"))
                .header(header::CONNECTION, "upgrade")
                .header(header::UPGRADE, "websocket")
                .header(header::SEC_WEBSOCKET_VERSION, "13")
                .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
                .header(header::SEC_WEBSOCKET_PROTOCOL, "v4.channel.k8s.io");
            let refused = limited
                .request::<Value>(request.body(Vec::new()).expect("a request"))
                .await;
            assert_eq!(code(refused), 403, "{subresource}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_bounded_in_size_and_depth() {
    let server = Server::start();
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(server.client(), "default");
    let map = from_json(json!({"metadata": {"name": "a"}}));
    maps.create(&PostParams::default(), &map).await.expect("created");
    let add = |key: &str| Patch::Merge(json!({"metadata": {"annotations": {key: "x".repeat(200 * 1024)}}}));
    maps.patch("a", &PatchParams::default(), &add("one"))
        .await
        .expect("small enough");
    assert_eq!(
        code(maps.patch("a", &PatchParams::default(), &add("two")).await),
        422
    );

    let revisions: Api<k8s_openapi::api::apps::v1::ControllerRevision> =
        Api::namespaced(server.client(), "default");
    let nested = (0..90).fold(json!(1), |inner, _| json!({ "a": inner }));
    let revision = json!({"metadata": {"name": "deep"}, "revision": 1, "data": nested});
    revisions
        .create(&PostParams::default(), &from_json(revision))
        .await
        .expect("not too deep");
    let mut deeper = json!({"data": (0..89).fold(json!({ "b": nested }), |inner, _| json!({ "a": inner }))});
    assert_eq!(
        code(
            revisions
                .patch("deep", &PatchParams::default(), &Patch::Merge(&deeper))
                .await
        ),
        400
    );
    deeper = json!({"data": {"large": "x".repeat(1600 * 1024)}});
    let error = revisions
        .patch("deep", &PatchParams::default(), &Patch::Merge(&deeper))
        .await;
    let error = error.expect_err("larger than etcd takes").to_string();
    assert!(error.contains("etcdserver: request is too large"), "{error}");
}
