//! A survey of a cluster that somebody else made: usable nodes, storage, and operating systems.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::{Capabilities, Provenance, Room};

/// The annotation of the default class, for claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// The results of a survey.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// The nodes that accept the release's pods.
    nodes: Vec<Node>,
    /// The storage class of claims, or the reason why there is none.
    storage: Result<String, String>,
    /// Room that is free on the nodes.
    room: Option<Room>,
}

impl Survey {
    /// Surveys the cluster. `storage_class` and `node_selector` are those of the run's placement.
    ///
    /// # Errors
    /// When nodes or storage classes cannot be listed.
    pub async fn take(
        client: &Client,
        storage_class: Option<&str>,
        node_selector: &BTreeMap<String, String>,
    ) -> Result<Self, kube::Error> {
        let all = ListParams::default();
        let nodes = Api::<Node>::all(client.clone()).list(&all).await?.items;
        let classes = Api::<StorageClass>::all(client.clone()).list(&all).await?.items;
        let mut survey = Self::of(nodes, &classes, storage_class, node_selector);
        survey.room = Some(Room::look(client, &survey.nodes).await);
        Ok(survey)
    }

    fn of(
        mut nodes: Vec<Node>,
        classes: &[StorageClass],
        storage_class: Option<&str>,
        node_selector: &BTreeMap<String, String>,
    ) -> Self {
        nodes.retain(|node| {
            takes_pods(node)
                && node_selector
                    .iter()
                    .all(|(key, value)| node.labels().get(key) == Some(value))
        });
        Self {
            nodes,
            storage: storage(classes, storage_class),
            room: None,
        }
    }

    /// Returns the capabilities that scenarios may count on.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            no_storage: self.storage.clone().err(),
            room: self.room,
        }
    }

    /// Returns the facts about the cluster for the report.
    pub fn provenance(&self, provider: &str, kubernetes: String) -> Provenance {
        let info = |node: &Node| Some(node.status.as_ref()?.node_info.as_ref()?.kernel_version.clone());
        let cpus = |node: &Node| {
            let capacity = node.status.as_ref()?.capacity.as_ref()?;
            capacity.get("cpu")?.0.parse::<usize>().ok()
        };
        Provenance {
            provider: provider.to_owned(),
            kubernetes,
            nodes: self.nodes.len(),
            kernel: self
                .nodes
                .iter()
                .find_map(info)
                .unwrap_or_else(|| "unknown".to_owned()),
            processors: self.nodes.iter().filter_map(cpus).sum(),
            images: Vec::new(),
        }
    }
}

/// The class that claims get: the one that is wanted, or the default one.
///
/// # Errors
/// Why they get none.
pub fn storage(classes: &[StorageClass], wanted: Option<&str>) -> Result<String, String> {
    let names = || {
        classes
            .iter()
            .map(ResourceExt::name_any)
            .collect::<Vec<_>>()
            .join(", ")
    };
    if let Some(wanted) = wanted {
        let found = classes.iter().any(|class| class.name_any() == wanted);
        return found.then(|| wanted.to_owned()).ok_or_else(|| {
            format!(
                "there is no storage class {wanted:?}; the cluster has: {}",
                names()
            )
        });
    }
    let is_default = |class: &&StorageClass| {
        class
            .annotations()
            .get(DEFAULT_CLASS)
            .is_some_and(|is| is == "true")
    };
    let default = classes.iter().find(is_default).map(ResourceExt::name_any);
    default.ok_or_else(|| {
        if classes.is_empty() {
            "the cluster has no storage class, so no volume can be created".to_owned()
        } else {
            format!(
                "the cluster has no default storage class; --storage-class chooses one of: {}",
                names()
            )
        }
    })
}

/// Ready, not cordoned, and without a taint that the release's pods do not tolerate.
fn takes_pods(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let cordoned = spec.and_then(|spec| spec.unschedulable) == Some(true);
    let repels = |taint: &Taint| taint.effect != "PreferNoSchedule";
    let tainted = spec.is_some_and(|spec| spec.taints.iter().flatten().any(repels));
    is_ready(node) && !cordoned && !tainted
}

/// Returns true if the kubelet says that it can run pods.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, spec: &str, ready: &str) -> Node {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: {name}, labels: {{pool: {name}}}}}, spec: {spec}, status: {{capacity: {{cpu: '4'}},
               conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
        ))
        .expect("the test's own YAML is a node")
    }

    fn class(name: &str, default: bool) -> StorageClass {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: {name}, annotations: {{{DEFAULT_CLASS}: '{default}'}}}}, provisioner: x}}"
        ))
        .expect("the test's own YAML is a storage class")
    }

    #[test]
    fn only_nodes_that_would_take_a_pod_count() {
        let nodes = vec![
            node("a", "{}", "True"),
            node("b", "{}", "Unknown"),
            node("c", "{unschedulable: true}", "True"),
            node(
                "d",
                "{taints: [{key: control-plane, effect: NoSchedule}]}",
                "True",
            ),
            node("e", "{taints: [{key: spot, effect: PreferNoSchedule}]}", "True"),
        ];
        let of = |selector: &[(&str, &str)]| {
            let selector = selector
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            Survey::of(nodes.clone(), &[class("fast", true)], None, &selector)
        };
        let survey = of(&[]);
        assert_eq!(survey.nodes.len(), 2);
        assert_eq!(survey.provenance("x", "v1".to_owned()).processors, 8);
        assert_eq!(of(&[("pool", "e")]).nodes.len(), 1);
    }

    #[test]
    fn a_claim_gets_the_class_that_was_asked_for_or_the_default_one() {
        let classes = [class("slow", false), class("fast", true)];
        assert_eq!(storage(&classes, None).unwrap(), "fast");
        assert_eq!(storage(&classes, Some("slow")).unwrap(), "slow");
        for (classes, wanted, expected) in [
            (
                &classes[..],
                Some("none"),
                "there is no storage class \"none\"; the cluster has: slow, fast",
            ),
            (&classes[..1], None, "--storage-class chooses one of: slow"),
            (&[], None, "no storage class"),
        ] {
            let why = storage(classes, wanted).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
    }
}
