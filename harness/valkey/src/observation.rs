//! The observation of a release at one moment: its pods, and each node's own view. The checks read
//! such observations.

use std::collections::BTreeMap;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde::{Deserialize, Serialize};

use super::cluster_nodes::ClusterNodes;
use super::links::Links;
use super::view::{NodeView, ViewError};
use secret::Passwords;

/// The chart's `mode`, in which the release runs Valkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Independent servers; one by default.
    Standalone,
    /// A Valkey Cluster.
    Cluster,
}

/// The topology that the release's values promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedTopology {
    /// Standalone or cluster.
    pub mode: Mode,
    /// Number of server pods.
    pub pods: u32,
    /// `cluster.replicasPerPrimary`; 0 in standalone mode.
    pub replicas_per_primary: u32,
    /// True if `auth.enabled`.
    pub auth: bool,
}

impl ExpectedTopology {
    /// Creates the topology of a standalone release.
    pub fn standalone(pods: u32) -> Self {
        Self {
            mode: Mode::Standalone,
            pods,
            replicas_per_primary: 0,
            auth: true,
        }
    }

    /// Creates the topology of a cluster release.
    pub fn cluster(pods: u32, replicas_per_primary: u32) -> Self {
        Self {
            mode: Mode::Cluster,
            pods,
            replicas_per_primary,
            auth: true,
        }
    }

    /// Returns the resulting number of primaries: pods / (1 + replicas per primary). Surplus pods
    /// are extra replicas.
    pub fn primaries(&self) -> u32 {
        match self.mode {
            Mode::Standalone => self.pods,
            Mode::Cluster => self.pods / (1 + self.replicas_per_primary),
        }
    }
}

/// Kubernetes' facts about a server pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// The number at the end of its name.
    pub ordinal: Option<u32>,
    /// Its current address.
    pub ip: Option<String>,
    /// The pod's UID, which changes when the pod is replaced.
    pub uid: String,
    /// The Ready condition.
    pub ready: bool,
    /// The node it runs on.
    pub node: Option<String>,
    /// True if it is being deleted.
    pub terminating: bool,
    /// Restarts of all the pod's containers together.
    pub restart_count: i32,
    /// Describes the end of the last terminated container.
    pub last_termination: Option<String>,
}

impl PodFacts {
    /// Reads a pod object.
    pub fn from_pod(pod: &Pod) -> Self {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        Self {
            ordinal: name
                .rsplit_once('-')
                .and_then(|(_, ordinal)| ordinal.parse().ok()),
            ip: status.pod_ip.filter(|ip| !ip.is_empty()),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            ready: conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            restart_count: containers.iter().map(|container| container.restart_count).sum(),
            last_termination: containers.iter().find_map(termination),
            name,
        }
    }
}

fn termination(container: &ContainerStatus) -> Option<String> {
    let ended = container.last_state.as_ref()?.terminated.as_ref()?;
    let reason = ended.reason.as_deref().unwrap_or("no reason given");
    Some(format!(
        "container {} ended with exit code {} ({reason})",
        container.name, ended.exit_code
    ))
}

/// All knowledge of a release at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterObservation {
    /// The expected topology.
    pub expected: ExpectedTopology,
    /// The time at which the pods were listed.
    pub at: Timestamp,
    /// The server pods, in ordinal order.
    pub pods: Vec<PodFacts>,
    /// By pod name: the node's view, or the reason why there is none.
    pub views: BTreeMap<String, Result<NodeView, ViewError>>,
}

impl ClusterObservation {
    /// Asks every pod at once. Records a pod that cannot be asked as such.
    pub async fn collect(
        expected: ExpectedTopology,
        mut pods: Vec<PodFacts>,
        links: &Links,
        passwords: &Passwords,
    ) -> Self {
        links.keep_only(&pods);
        pods.sort_by(|a, b| (a.ordinal, &a.name).cmp(&(b.ordinal, &b.name)));
        let at = Timestamp::now();
        let views = join_all(pods.iter().map(|pod| async {
            let view = links.view(pod, passwords).await;
            (pod.name.clone(), view)
        }))
        .await
        .into_iter()
        .collect();
        Self {
            expected,
            at,
            pods,
            views,
        }
    }

    /// Returns the views of the pods that answered, by pod name.
    pub fn answered(&self) -> impl Iterator<Item = (&str, &NodeView)> {
        self.views
            .iter()
            .filter_map(|(pod, view)| Some((pod.as_str(), view.as_ref().ok()?)))
    }

    /// Returns true if all pods of a cluster answer and each node knows only itself. Such a cluster
    /// cannot form without help.
    pub fn is_unformed(&self) -> bool {
        let all_answer = self.answered().count() == self.expected.pods as usize;
        let alone =
            |(_, view): (&str, &NodeView)| view.nodes.as_ref().is_some_and(|nodes| nodes.nodes.len() == 1);
        self.expected.mode == Mode::Cluster
            && self.expected.pods > 1
            && all_answer
            && self.answered().all(alone)
    }

    /// Returns the `CLUSTER NODES` of the pods that answered, by pod name.
    pub fn node_tables(&self) -> impl Iterator<Item = (&str, &ClusterNodes)> {
        self.answered()
            .filter_map(|(pod, view)| Some((pod, view.nodes.as_ref()?)))
    }

    /// Returns the pod that has this address now.
    pub fn pod_by_ip(&self, ip: &str) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| pod.ip.as_deref() == Some(ip))
    }

    /// Returns the pod with the server that claims this node ID.
    pub fn pod_of_node(&self, id: &str) -> Option<&str> {
        self.node_tables()
            .find(|(_, nodes)| nodes.myself().is_some_and(|myself| myself.id == id))
            .map(|(pod, _)| pod)
    }

    /// Names a node for people: its pod, if any, and the start of its ID.
    pub fn node_name(&self, id: &str) -> String {
        let short = id.get(..8).unwrap_or(id);
        match self.pod_of_node(id) {
            Some(pod) => format!("{pod} ({short})"),
            None => format!("node {short}"),
        }
    }
}
