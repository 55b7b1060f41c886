//! Everything that is not a resource: health, version and the lists of served resources.

use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::content::{respond, respond_bytes};
use super::kinds::{KINDS, ResourceKind, VIRTUAL, VirtualKind, group_version, groups};
use super::openapi;
use super::status::ApiError;

/// The Kubernetes minor version of the types: k8s-openapi's `latest` feature.
const MINOR: &str = "37";

/// Verbs of stored kinds.
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Answers a path that is not a resource.
pub(crate) fn answer(parts: &Parts) -> Result<Response, ApiError> {
    let path = parts.uri.path().trim_matches('/');
    let segments: Vec<&str> = path.split('/').collect();
    let aggregated = aggregated(parts);
    let ok = |value: Value| Ok(respond(StatusCode::OK, false, &value));
    let known = match segments.as_slice() {
        [""] => {
            Some(json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"]}))
        }
        ["version"] => Some(version()),
        ["api"] if !aggregated => Some(json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]})),
        ["apis"] if !aggregated => Some(json!({"kind": "APIGroupList", "apiVersion": "v1",
            "groups": named_groups().map(|(g, v)| api_group(g, v)).collect::<Vec<_>>()})),
        ["api", version] => resource_list("", version),
        ["apis", group] => groups()
            .iter()
            .find(|(g, _)| !g.is_empty() && g == group)
            .map(|(g, v)| {
                let mut value = api_group(g, v);
                value["kind"] = json!("APIGroup");
                value["apiVersion"] = json!("v1");
                value
            }),
        ["apis", group, version] if !group.is_empty() => resource_list(group, version),
        ["openapi", "v2"] => Some(openapi::document_v2()),
        ["openapi", "v3"] => Some(openapi::index()),
        ["openapi", "v3", "api", version] => openapi::document("", version),
        ["openapi", "v3", "apis", group, version] => openapi::document(group, version),
        _ => None,
    };
    match (known, segments.as_slice()) {
        (Some(_), _) if parts.method != Method::GET => Err(ApiError::method_not_allowed()),
        (Some(_), ["openapi", "v2"]) if asks_for_protobuf(parts) => Ok(respond_bytes(
            StatusCode::OK,
            openapi::V2_PROTOBUF,
            openapi::document_v2_protobuf().into(),
        )),
        (Some(value), _) => ok(value),
        (None, ["api"]) => Ok(aggregated_list(&[("", "v1")])),
        (None, ["apis"]) => Ok(aggregated_list(&named_groups().collect::<Vec<_>>())),
        (None, ["healthz" | "livez" | "readyz", ..]) => Ok(respond_bytes(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            "ok".into(),
        )),
        (None, _) => Err(ApiError::unknown_path()),
    }
}

fn accept(parts: &Parts) -> &str {
    let accept = parts.headers.get(header::ACCEPT);
    accept.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn asks_for_protobuf(parts: &Parts) -> bool {
    [openapi::V2_PROTOBUF, openapi::V2_PROTOBUF_ASKED]
        .iter()
        .any(|asked| accept(parts).contains(asked))
}

fn aggregated(parts: &Parts) -> bool {
    let accept = accept(parts);
    accept
        .split(',')
        .any(|range| range.contains("as=APIGroupDiscoveryList") && range.contains("v=v2;"))
        || accept
            .split(',')
            .any(|range| range.contains("as=APIGroupDiscoveryList") && range.trim_end().ends_with("v=v2"))
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": format!("v1.{MINOR}.0+embedded"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    })
}

fn named_groups() -> impl Iterator<Item = (&'static str, &'static str)> {
    groups().into_iter().filter(|(group, _)| !group.is_empty())
}

fn api_group(group: &str, version: &str) -> Value {
    let entry = json!({"groupVersion": group_version(group, version), "version": version});
    json!({"name": group, "versions": [entry], "preferredVersion": entry})
}

fn resource_list(group: &str, version: &str) -> Option<Value> {
    let mut resources: Vec<Value> = Vec::new();
    for kind in KINDS.iter().filter(|k| k.group == group && k.version == version) {
        resources.push(resource(kind));
        resources.extend(subresources(kind).iter().map(|sub| {
            json!({"name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced,
                "group": sub.kind.0, "version": sub.kind.1, "kind": sub.kind.2, "verbs": sub.verbs})
        }));
    }
    for kind in VIRTUAL
        .iter()
        .filter(|k| k.group == group && k.version == version)
    {
        resources.push(
            json!({"name": kind.plural, "singularName": kind.singular, "namespaced": false,
            "kind": kind.kind, "verbs": ["create"]}),
        );
    }
    if resources.is_empty() {
        return None;
    }
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": group_version(group, version), "resources": resources}))
}

fn resource(kind: &ResourceKind) -> Value {
    let mut value = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
        "kind": kind.kind, "verbs": VERBS, "storageVersionHash": ""});
    if !kind.short_names.is_empty() {
        value["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        value["categories"] = json!(kind.categories);
    }
    value
}

struct Subresource {
    name: &'static str,
    /// Group, version and kind of the objects that a client sends and receives.
    kind: (&'static str, &'static str, &'static str),
    verbs: &'static [&'static str],
}

fn subresources(kind: &'static ResourceKind) -> Vec<Subresource> {
    let own = (kind.group, kind.version, kind.kind);
    let status = kind.status.then_some(Subresource {
        name: "status",
        kind: own,
        verbs: &["get", "patch", "update"],
    });
    let others = kind.subresources.iter().map(|name| {
        let (exchanged, verbs): (_, &[&str]) = match *name {
            "scale" => (("autoscaling", "v1", "Scale"), &["get", "patch", "update"]),
            "eviction" => (("policy", "v1", "Eviction"), &["create"]),
            "binding" => (("", "v1", "Binding"), &["create"]),
            "token" => (("authentication.k8s.io", "v1", "TokenRequest"), &["create"]),
            "log" => (own, &["get"]),
            "attach" => (("", "v1", "PodAttachOptions"), &["create", "get"]),
            "exec" => (("", "v1", "PodExecOptions"), &["create", "get"]),
            "portforward" => (("", "v1", "PodPortForwardOptions"), &["create", "get"]),
            _ => (own, &["update"]),
        };
        Subresource {
            name,
            kind: exchanged,
            verbs,
        }
    });
    status.into_iter().chain(others).collect()
}

/// Returns an `APIGroupDiscoveryList`: all groups and resources in one answer.
fn aggregated_list(groups: &[(&str, &str)]) -> Response {
    let items: Vec<Value> = groups
        .iter()
        .map(|(group, version)| aggregated_group(group, version))
        .collect();
    let value = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": items});
    respond_bytes(
        StatusCode::OK,
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        value.to_string().into(),
    )
}

fn aggregated_group(group: &str, version: &str) -> Value {
    let stored = KINDS
        .iter()
        .filter(|k| k.group == group && k.version == version)
        .map(aggregated_resource);
    let reviews = VIRTUAL
        .iter()
        .filter(|k| k.group == group && k.version == version)
        .map(aggregated_review);
    let resources: Vec<Value> = stored.chain(reviews).collect();
    let metadata = if group.is_empty() {
        json!({})
    } else {
        json!({"name": group})
    };
    json!({"metadata": metadata,
        "versions": [{"version": version, "resources": resources, "freshness": "Current"}]})
}

fn aggregated_resource(kind: &'static ResourceKind) -> Value {
    let mut value = json!({
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": VERBS,
        "shortNames": kind.short_names,
        "categories": kind.categories,
    });
    let subresources: Vec<Value> = subresources(kind)
        .iter()
        .map(|sub| {
            let (group, version, kind) = sub.kind;
            json!({"subresource": sub.name, "verbs": sub.verbs,
                "responseKind": {"group": group, "version": version, "kind": kind}})
        })
        .collect();
    value["subresources"] = json!(subresources);
    value
}

fn aggregated_review(kind: &VirtualKind) -> Value {
    json!({
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Cluster",
        "singularResource": kind.singular,
        "verbs": ["create"],
    })
}
