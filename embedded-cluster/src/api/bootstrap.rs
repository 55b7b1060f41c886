//! Objects that every cluster has from the start: namespaces, the Service of the API itself,
//! priorities and roles.

use serde_json::{Value, json};

use super::kinds::find;
use super::server::ApiServer;
use super::verbs::create::create_object;

/// Creates the objects every cluster has.
pub(crate) fn fill(server: &ApiServer) {
    let namespaces = find("", "v1", "namespaces").expect("namespaces are in the table");
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
        create_object(server, namespaces, "", namespace, false)
            .expect("the store is empty and this is valid");
    }
    let services = find("", "v1", "services").expect("services are in the table");
    let service = json!({"kind": "Service", "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": super::addresses::api_address(server.config.service_network).to_string(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]}});
    create_object(server, services, "default", service, false).expect("the store is empty and this is valid");
    for (name, value) in [
        ("system-cluster-critical", 2_000_000_000),
        ("system-node-critical", 2_000_001_000),
    ] {
        let class = json!({"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": name},
            "value": value});
        create(server, "scheduling.k8s.io", "priorityclasses", class);
    }
    for (name, rules) in roles() {
        let role = json!({"kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1",
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}, "rules": rules});
        create(server, "rbac.authorization.k8s.io", "clusterroles", role);
    }
    for (role, group) in [
        ("cluster-admin", "system:masters"),
        ("system:basic-user", "system:authenticated"),
        ("system:discovery", "system:authenticated"),
    ] {
        let binding = json!({"kind": "ClusterRoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1",
            "metadata": {"name": role, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}]});
        create(
            server,
            "rbac.authorization.k8s.io",
            "clusterrolebindings",
            binding,
        );
    }
}

fn create(server: &ApiServer, group: &str, plural: &str, object: Value) {
    let kind = find(group, "v1", plural).expect("the kind is in the table");
    create_object(server, kind, "", object, false).expect("the store is empty and this is valid");
}

/// Returns the ClusterRoles that every cluster offers its users, for the kinds that are served
/// here.
fn roles() -> Vec<(&'static str, Value)> {
    const READ: [&str; 3] = ["get", "list", "watch"];
    const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];
    let rule = |verbs: &[&str], group: &str, resources: &[&str]| json!({"verbs": verbs, "apiGroups": [group], "resources": resources});
    let view = vec![
        rule(
            &READ,
            "",
            &[
                "configmaps",
                "endpoints",
                "events",
                "limitranges",
                "namespaces",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "pods",
                "pods/log",
                "pods/status",
                "resourcequotas",
                "serviceaccounts",
                "services",
                "services/status",
            ],
        ),
        rule(
            &READ,
            "apps",
            &[
                "controllerrevisions",
                "daemonsets",
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
                "statefulsets",
                "statefulsets/scale",
                "statefulsets/status",
            ],
        ),
        rule(&READ, "batch", &["cronjobs", "jobs", "jobs/status"]),
        rule(
            &READ,
            "policy",
            &["poddisruptionbudgets", "poddisruptionbudgets/status"],
        ),
        rule(&READ, "discovery.k8s.io", &["endpointslices"]),
    ];
    let mut edit = view.clone();
    edit.extend([
        rule(
            &WRITE,
            "",
            &[
                "configmaps",
                "events",
                "persistentvolumeclaims",
                "pods",
                "pods/attach",
                "pods/exec",
                "pods/portforward",
                "serviceaccounts",
                "services",
            ],
        ),
        rule(&[READ.as_slice(), &WRITE].concat(), "", &["secrets"]),
        rule(&READ, "", &["pods/attach", "pods/exec", "pods/portforward"]),
        rule(&["create"], "", &["pods/eviction", "serviceaccounts/token"]),
        rule(&["impersonate"], "", &["serviceaccounts"]),
        rule(
            &WRITE,
            "apps",
            &[
                "deployments",
                "deployments/scale",
                "replicasets",
                "replicasets/scale",
                "statefulsets",
                "statefulsets/scale",
            ],
        ),
        rule(&WRITE, "batch", &["cronjobs", "jobs"]),
        rule(&WRITE, "policy", &["poddisruptionbudgets"]),
        rule(
            &[READ.as_slice(), &WRITE].concat(),
            "coordination.k8s.io",
            &["leases"],
        ),
    ]);
    let mut admin = edit.clone();
    admin.push(rule(
        &[READ.as_slice(), &WRITE].concat(),
        "rbac.authorization.k8s.io",
        &["rolebindings", "roles"],
    ));
    vec![
        (
            "cluster-admin",
            json!([rule(&["*"], "*", &["*"]), {"verbs": ["*"], "nonResourceURLs": ["*"]}]),
        ),
        ("admin", json!(admin)),
        ("edit", json!(edit)),
        ("view", json!(view)),
        (
            "system:basic-user",
            json!([
                rule(
                    &["create"],
                    "authorization.k8s.io",
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
                ),
                rule(&["create"], "authentication.k8s.io", &["selfsubjectreviews"]),
            ]),
        ),
        (
            "system:discovery",
            json!([{"verbs": ["get"], "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz",
            "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/"]}]),
        ),
    ]
}
