//! The Node object: the facts about this machine that `kubectl get nodes -o wide` shows.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};

use super::capacity;

/// The node's limit of pods, the kubelet's `maxPods`. The kubelet's default of 110 is for one node
/// of many. This node is the whole cluster, and each concurrent trial has up to a dozen pods.
pub const MAX_PODS: u32 = 1000;

/// The Kubernetes release whose behaviour this release of the embedded cluster follows.
const KUBELET_VERSION: &str = "v1.36.2";

/// Creates the Node object and marks it ready.
pub(crate) async fn register(client: Client, name: &str, ip: Ipv4Addr) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client);
    let mut node = Node::default();
    node.metadata.name = Some(name.to_owned());
    node.metadata.labels = Some(labels(name));
    match nodes.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error),
    }
    let patch = serde_json::json!({"status": status(name, ip)});
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(drop)
}

fn labels(name: &str) -> BTreeMap<String, String> {
    let labels = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("node-role.kubernetes.io/control-plane", ""),
    ];
    labels
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn status(name: &str, ip: Ipv4Addr) -> NodeStatus {
    let resources = BTreeMap::from([
        ("cpu".to_owned(), Quantity(capacity::node_cpus().to_string())),
        (
            "memory".to_owned(),
            Quantity(format!("{}Ki", capacity::node_memory() / 1024)),
        ),
        ("pods".to_owned(), Quantity(MAX_PODS.to_string())),
    ]);
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.to_owned(),
        address,
    };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", ip.to_string()),
            address("Hostname", name.to_owned()),
        ]),
        allocatable: Some(resources.clone()),
        capacity: Some(resources),
        conditions: Some(conditions()),
        node_info: Some(node_info()),
        ..NodeStatus::default()
    }
}

fn conditions() -> Vec<NodeCondition> {
    let now = Some(Time(Timestamp::now()));
    let condition = |name: &str, status: &str, reason: &str, message: &str| NodeCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: now.clone(),
        last_transition_time: now.clone(),
    };
    vec![
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        condition(
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        condition(
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]
}

fn node_info() -> NodeSystemInfo {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let os = read("/etc/os-release");
    let os = os
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("Linux")
        .trim_matches('"')
        .to_owned();
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("embedded://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: KUBELET_VERSION.to_owned(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image: os,
        system_uuid: String::new(),
        ..NodeSystemInfo::default()
    }
}

/// Returns the architecture by Go's name, which Kubernetes uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
