//! Bad requests: the server answers each with a Kubernetes `Status` and keeps running.

use crate::server::{self, Server, TOKEN, code, from_json, running_pod};
use embedded_cluster::api::{Denial, Identity, Token};
use http::{Method, Request, header};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// Sends a request and returns the code and message of the refusal.
async fn refusal(
    client: &kube::Client,
    method: Method,
    path: &str,
    kind: &str,
    body: &[u8],
) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, kind);
    match client
        .request::<Value>(request.body(body.to_vec()).expect("a request"))
        .await
    {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_malformed_request_gets_a_status() {
    let server = Server::start();
    let client = server.client();
    let maps = "/api/v1/namespaces/default/configmaps";
    let large = vec![b' '; 3 * 1024 * 1024 + 1];
    let json = "application/json";
    let cases: [(Method, &str, &str, &[u8], u16); 13] = [
        (Method::POST, maps, json, b"{\"metadata\":", 400),
        (Method::POST, maps, json, b"[]", 400),
        (Method::POST, maps, json, b"", 400),
        (
            Method::POST,
            maps,
            json,
            b"{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}",
            400,
        ),
        (
            Method::POST,
            maps,
            json,
            b"{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":1}}",
            400,
        ),
        (
            Method::POST,
            maps,
            "application/vnd.kubernetes.protobuf",
            b"k8s\0",
            415,
        ),
        (Method::POST, maps, json, &large, 413),
        (
            Method::POST,
            "/api/v1/namespaces/default/configmaps/a",
            json,
            b"{}",
            405,
        ),
        (Method::GET, "/api/v1/nonsense", json, b"", 404),
        (Method::GET, "/apis/apps/v1/daemonsets", json, b"", 404),
        (
            Method::GET,
            "/api/v1/pods?labelSelector=a%20in%20(",
            json,
            b"",
            400,
        ),
        (
            Method::GET,
            "/api/v1/pods?fieldSelector=spec.what%3D1",
            json,
            b"",
            400,
        ),
        (
            Method::PATCH,
            "/api/v1/namespaces/default",
            "text/plain",
            b"{}",
            415,
        ),
    ];
    for (method, path, kind, body, expected) in cases {
        let (code, message) = refusal(&client, method.clone(), path, kind, body).await;
        assert_eq!(code, expected, "{method} {path}: {message}");
    }
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    assert_eq!(
        api.list(&ListParams::default())
            .await
            .expect("still serving")
            .items
            .len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_decide_who_may_do_what() {
    let denied = vec![
        Denial {
            verb: "create".to_owned(),
            resource: "pods/exec".to_owned(),
            namespace: None,
        },
        Denial {
            verb: "*".to_owned(),
            resource: "secrets".to_owned(),
            namespace: Some("default".to_owned()),
        },
    ];
    let identity = Identity {
        user: "limited".to_owned(),
        groups: Vec::new(),
        denied,
    };
    let server = Server::start_with(vec![Token {
        secret: "limited-token".to_owned(),
        identity,
    }]);
    let pods: Api<Pod> = Api::namespaced(server.client_with("wrong"), "default");
    assert_eq!(code(pods.list(&ListParams::default()).await), 401);
    let limited = server.client_with("limited-token");
    let pods: Api<Pod> = Api::namespaced(limited.clone(), "default");
    pods.list(&ListParams::default()).await.expect("not denied");
    let secrets: Api<Secret> = Api::namespaced(limited, "default");
    let refused = secrets.get("a").await.expect_err("denied");
    assert!(
        refused
            .to_string()
            .contains("User \"limited\" cannot get resource \"secrets\""),
        "{refused}"
    );
    assert!(!format!("{:?}", server.api).contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn immutable_and_unsupported_fields_are_named() {
    let server = Server::start();
    let client = server.client();
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), "default");
    sets.create(&PostParams::default(), &server::stateful_set("web"))
        .await
        .expect("created");
    let patch = Patch::Merge(json!({"spec": {"serviceName": "other"}}));
    let error = sets
        .patch("web", &PatchParams::default(), &patch)
        .await
        .expect_err("immutable");
    assert!(
        error
            .to_string()
            .contains("updates to statefulset spec for fields other than 'replicas'"),
        "{error}"
    );

    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let mut pod = server::pod("a");
    pod.spec.as_mut().expect("spec").host_network = Some(true);
    let error = pods
        .create(&PostParams::default(), &pod)
        .await
        .expect_err("unsupported");
    assert!(
        error
            .to_string()
            .contains("not supported by the embedded cluster: spec.hostNetwork"),
        "{error}"
    );
    let mut pod = server::pod("a");
    pod.spec.as_mut().expect("spec").service_account_name = Some("nobody".to_owned());
    assert_eq!(code(pods.create(&PostParams::default(), &pod).await), 403);

    let services: Api<Service> = Api::namespaced(client, "default");
    let service =
        json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    let made = services
        .create(&PostParams::default(), &from_json(service))
        .await
        .expect("created");
    let spec = made.spec.expect("spec");
    assert!(spec.cluster_ip.expect("allocated").starts_with("10.96."));
    let patch = Patch::Merge(json!({"spec": {"clusterIP": "10.96.1.1"}}));
    assert_eq!(
        code(services.patch("s", &PatchParams::default(), &patch).await),
        422
    );
    let patch = Patch::Merge(json!({"spec": {"type": "ExternalName", "externalName": "x"}}));
    assert_eq!(
        code(services.patch("s", &PatchParams::default(), &patch).await),
        422
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_without_disruptions_left_refuses_evictions() {
    let server = Server::start();
    // The in-process client is used: the TLS client would retry a 429 response for minutes.
    let client = server.api.client();
    running_pod(&client, "a").await;
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    let budgets: Api<k8s_openapi::api::policy::v1::PodDisruptionBudget> =
        Api::namespaced(client.clone(), "default");
    budgets
        .create(&PostParams::default(), &from_json(budget))
        .await
        .expect("created");
    let pods: Api<Pod> = Api::namespaced(client, "default");
    assert_eq!(code(pods.evict("a", &EvictParams::default()).await), 429);
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2,
        "desiredHealthy": 1, "expectedPods": 2}});
    budgets
        .patch_status("b", &PatchParams::default(), &Patch::Merge(status))
        .await
        .expect("patched");
    pods.evict("a", &EvictParams::default()).await.expect("evicted");
    assert!(
        pods.get("a")
            .await
            .expect("ending")
            .metadata
            .deletion_timestamp
            .is_some()
    );
    let after = budgets.get("b").await.expect("there").status.expect("status");
    assert_eq!(after.disruptions_allowed, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_side_apply_creates_conflicts_and_gives_up() {
    let server = Server::start();
    let api: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    let config = |data: Value| Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data}));
    let x = PatchParams::apply("x");
    api.patch("a", &x, &config(json!({"k": "1", "gone": "1"})))
        .await
        .expect("created");
    let y = PatchParams::apply("y");
    assert_eq!(code(api.patch("a", &y, &config(json!({"k": "2"}))).await), 409);
    api.patch("a", &y.clone().force(), &config(json!({"k": "2"})))
        .await
        .expect("forced");
    let after = api
        .patch("a", &x, &config(json!({"other": "1"})))
        .await
        .expect("applied");
    let data = after.data.expect("data");
    assert_eq!(data.keys().collect::<Vec<_>>(), ["k", "other"]);
    let again = api
        .patch("a", &x, &config(json!({"other": "1"})))
        .await
        .expect("applied");
    assert_eq!(
        again.metadata.resource_version, after.metadata.resource_version,
        "nothing changed"
    );
    api.delete("a", &DeleteParams::default()).await.expect("deleted");
}

/// Checks that a StatefulSet is accepted although its pods are not. The controller gets the
/// refusal, as in Kubernetes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_namespace_refuses_pods_that_are_not() {
    let server = Server::start();
    let namespaces: Api<Namespace> = Api::all(server.client());
    let namespace = |name: &str, level: &str| -> Namespace {
        let labels = json!({"pod-security.kubernetes.io/enforce": level});
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).expect("a namespace")
    };
    let params = PostParams::default();
    let refused = namespaces.create(&params, &namespace("b", "strict")).await;
    assert_eq!(code(refused), 422);
    namespaces
        .create(&params, &namespace("a", "restricted"))
        .await
        .expect("a level that exists");
    let pods: Api<Pod> = Api::namespaced(server.client(), "a");
    let pod = |security: Value| -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "p"}, "spec": {"securityContext": {"runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "image": "i", "securityContext": security}]}}),
        )
        .expect("a pod")
    };
    let loose = pods
        .create(&params, &pod(json!({})))
        .await
        .expect_err("not restricted");
    let expected =
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation";
    assert!(loose.to_string().contains(expected), "{loose}");
    let strict = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    pods.create(&params, &pod(strict))
        .await
        .expect("it keeps to the level");
}
