//! Role-based access control: tokens of service accounts, and impersonation.

use crate::server::{self, Server, code, from_json};
use http::{Request, header};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

async fn token(client: &kube::Client, account: &str, spec: Value) -> kube::Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let request: TokenRequest = from_json(json!({"metadata": {}, "spec": spec}));
    let made = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await?;
    Ok(made.status.expect("a status").token.expect("a token"))
}

async fn bind(client: &kube::Client, verbs: &[&str]) {
    let role = json!({"metadata": {"name": "reader"}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]});
    let binding = json!({"metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]});
    let (roles, bindings): (Api<Role>, Api<RoleBinding>) = (
        Api::namespaced(client.clone(), "default"),
        Api::namespaced(client.clone(), "default"),
    );
    roles
        .create(&PostParams::default(), &from_json(role))
        .await
        .expect("created");
    bindings
        .create(&PostParams::default(), &from_json(binding))
        .await
        .expect("created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_account_may_do_what_its_roles_say() {
    let server = Server::start();
    let admin = server.client();
    let secret = token(&admin, "default", json!({"audiences": []}))
        .await
        .expect("a token");
    let account = server.client_with(&secret);
    let pods: Api<Pod> = Api::namespaced(account.clone(), "default");
    let refused = pods
        .list(&ListParams::default())
        .await
        .expect_err("no role yet")
        .to_string();
    let expected = "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert!(refused.contains(expected), "{refused}");
    bind(&admin, &["list"]).await;
    pods.list(&ListParams::default()).await.expect("the role says so");
    assert_eq!(code(pods.get("a").await), 403);
    let elsewhere: Api<Pod> = Api::namespaced(account.clone(), "kube-system");
    assert_eq!(code(elsewhere.list(&ListParams::default()).await), 403);
    assert_eq!(
        code(
            Api::<Pod>::all(account.clone())
                .list(&ListParams::default())
                .await
        ),
        403
    );
    let secrets: Api<Secret> = Api::namespaced(account.clone(), "default");
    assert_eq!(code(secrets.list(&ListParams::default()).await), 403);
    account.apiserver_version().await.expect("everybody may discover");

    let whole = json!({"metadata": {"name": "all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccounts:default"}]});
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
    bindings
        .create(&PostParams::default(), &from_json(whole))
        .await
        .expect("created");
    elsewhere
        .list(&ListParams::default())
        .await
        .expect("a view of everything");
    Api::<Namespace>::all(account.clone())
        .get("default")
        .await
        .expect("a view of everything");
    assert_eq!(code(secrets.list(&ListParams::default()).await), 403);
    let maps: Api<ConfigMap> = Api::namespaced(account, "default");
    let map: ConfigMap = from_json(json!({"metadata": {"name": "a"}}));
    assert_eq!(code(maps.create(&PostParams::default(), &map).await), 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_as_long_as_its_account_and_its_pod() {
    let server = Server::start();
    let admin = server.client();
    bind(&admin, &["list"]).await;
    let pods: Api<Pod> = Api::namespaced(admin.clone(), "default");
    let pod = pods
        .create(&PostParams::default(), &server::pod("a"))
        .await
        .expect("created");
    let bound = json!({"audiences": [], "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "a", "uid": pod.metadata.uid}});
    let of_pod = token(&admin, "default", bound.clone()).await.expect("a token");
    let of_account = token(&admin, "default", json!({"audiences": []}))
        .await
        .expect("a token");
    let elsewhere = token(&admin, "default", json!({"audiences": ["vault"]}))
        .await
        .expect("a token");
    let list = |secret: &str| {
        let api: Api<Pod> = Api::namespaced(server.client_with(secret), "default");
        async move { api.list(&ListParams::default()).await.map(drop) }
    };
    list(&of_pod).await.expect("the pod exists");
    assert_eq!(code(list(&elsewhere).await), 401);
    assert_eq!(code(list(&of_account[..of_account.len() - 2]).await), 401);
    pods.delete("a", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(code(list(&of_pod).await), 401);
    assert_eq!(code(token(&admin, "default", bound).await), 404);
    list(&of_account).await.expect("the account exists");
    let accounts: Api<ServiceAccount> = Api::namespaced(admin, "default");
    accounts
        .delete("default", &DeleteParams::default())
        .await
        .expect("deleted");
    assert_eq!(code(list(&of_account).await), 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impersonation_is_judged_by_the_roles_of_the_other() {
    let server = Server::start();
    let admin = server.client();
    bind(&admin, &["list"]).await;
    let ask = |client: kube::Client, user: &'static str, group: &'static str, path: &'static str| async move {
        let mut request = Request::get(path)
            .header(header::ACCEPT, "application/json")
            .header("impersonate-user", user);
        if !group.is_empty() {
            request = request.header("impersonate-group", group);
        }
        client
            .request::<Value>(request.body(Vec::new()).expect("a request"))
            .await
    };
    let pods = "/api/v1/namespaces/default/pods";
    let account = "system:serviceaccount:default:default";
    ask(admin.clone(), account, "", pods)
        .await
        .expect("the role says so");
    assert_eq!(code(ask(admin.clone(), "somebody", "", pods).await), 403);
    ask(admin.clone(), "somebody", "system:masters", pods)
        .await
        .expect("masters may do everything");
    let secret = token(&admin, "default", json!({"audiences": []}))
        .await
        .expect("a token");
    let refused = ask(server.client_with(&secret), "admin", "system:masters", pods).await;
    let refused = refused.expect_err("it may not impersonate").to_string();
    assert!(
        refused.contains("cannot impersonate resource \"users\""),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_priority_class_is_refused_and_a_known_one_counts() {
    let server = Server::start();
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    let mut pod = server::pod("a");
    pod.spec.as_mut().expect("spec").priority_class_name = Some("urgent".to_owned());
    let refused = pods
        .create(&PostParams::default(), &pod)
        .await
        .expect_err("no such class")
        .to_string();
    assert!(
        refused.contains("no PriorityClass with name urgent was found"),
        "{refused}"
    );
    pod.spec.as_mut().expect("spec").priority_class_name = Some("system-node-critical".to_owned());
    let made = pods.create(&PostParams::default(), &pod).await.expect("created");
    assert_eq!(made.spec.expect("spec").priority, Some(2_000_001_000));
}
