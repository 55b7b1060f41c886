//! Number of trials for which a cluster has room: the capacity of its nodes minus the present load.
//! A run beyond that makes the API server of a small cluster stop answering.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

/// Room for one trial, servers and Jobs together. On a real cluster with two processors, two
/// concurrent trials passed. Eight made the API server stop answering.
const PER_TRIAL: Room = Room {
    millicores: 1_000,
    bytes: 1 << 30,
    pods: 12,
};

/// Number of pods listed per request.
const PAGE: u32 = 500;

/// Room that is free on the nodes that take pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    millicores: u64,
    bytes: u64,
    pods: u64,
}

impl Room {
    /// Measures the free room of `nodes`. Ignores the load where the pods of others may not be
    /// listed.
    pub(crate) async fn look(client: &Client, nodes: &[Node]) -> Self {
        let mut room = Self::of(nodes);
        let pods: Api<Pod> = Api::all(client.clone());
        let mut params = ListParams::default().limit(PAGE);
        while let Ok(page) = pods.list(&params).await {
            room.take(nodes, &page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        room
    }

    fn of(nodes: &[Node]) -> Self {
        let mut room = Self::default();
        for node in nodes {
            let allocatable = node
                .status
                .as_ref()
                .and_then(|status| status.allocatable.as_ref());
            let amount = |name| allocatable.map_or(0, |all| thousandths(all, name));
            room.millicores += amount("cpu");
            room.bytes += amount("memory") / 1_000;
            room.pods += amount("pods") / 1_000;
        }
        room
    }

    fn take(&mut self, nodes: &[Node], pods: &[Pod]) {
        let names: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
        for pod in pods {
            let (Some(spec), status) = (&pod.spec, pod.status.as_ref()) else {
                continue;
            };
            let phase = status
                .and_then(|status| status.phase.as_deref())
                .unwrap_or_default();
            let here = spec.node_name.as_ref().is_some_and(|node| names.contains(node));
            if !here || matches!(phase, "Succeeded" | "Failed") {
                continue;
            }
            self.pods = self.pods.saturating_sub(1);
            for container in &spec.containers {
                let requests = container
                    .resources
                    .as_ref()
                    .and_then(|resources| resources.requests.as_ref());
                let amount = |name| requests.map_or(0, |all| thousandths(all, name));
                self.millicores = self.millicores.saturating_sub(amount("cpu"));
                self.bytes = self.bytes.saturating_sub(amount("memory") / 1_000);
            }
        }
    }

    /// Returns the number of trials that have room; at least one.
    pub fn trials(&self) -> usize {
        let fit = [
            self.millicores.div_ceil(PER_TRIAL.millicores),
            self.bytes / PER_TRIAL.bytes,
            self.pods / PER_TRIAL.pods,
        ];
        let least = fit.into_iter().min().unwrap_or(1).max(1);
        usize::try_from(least).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (processors, gibibytes) = (
            self.millicores as f64 / 1e3,
            self.bytes as f64 / f64::from(1 << 30),
        );
        write!(
            f,
            "{processors:.1} processors, {gibibytes:.1} GiB and {} pods free",
            self.pods
        )
    }
}

/// Returns a quantity in thousandths of its unit; 0 for one that cannot be parsed.
fn thousandths(all: &BTreeMap<String, Quantity>, name: &str) -> u64 {
    let Some(Quantity(text)) = all.get(name) else {
        return 0;
    };
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match suffix {
        "m" => 1.0,
        "" => 1e3,
        "k" => 1e6,
        "M" => 1e9,
        "G" => 1e12,
        "T" => 1e15,
        "Ki" => 1e3 * 1024.0,
        "Mi" => 1e3 * 1024.0 * 1024.0,
        "Gi" => 1e3 * 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1e3 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => 0.0,
    };
    // Rounding to a byte decides nothing here.
    (number.parse::<f64>().unwrap_or(0.0) * factor) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(cpu: &str, memory: &str) -> Node {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: n}}, status: {{allocatable: {{cpu: '{cpu}', memory: {memory}, pods: '110'}}}}}}"
        ))
        .expect("the test's own YAML is a node")
    }

    fn pod(cpu: &str, node: &str, phase: &str) -> Pod {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: p}}, spec: {{nodeName: {node}, containers: [{{name: c, resources: {{requests: {{cpu: '{cpu}', \
               memory: 512Mi}}}}}}]}}, status: {{phase: {phase}}}}}"
        ))
        .expect("the test's own YAML is a pod")
    }

    #[test]
    fn trials_follow_what_is_free() {
        assert_eq!(Room::of(&[node("2", "8148212Ki")]).trials(), 2);
        assert_eq!(Room::of(&[node("1930m", "8148212Ki")]).trials(), 2);
        assert_eq!(Room::of(&[node("16", "3Gi")]).trials(), 3);
        assert_eq!(Room::of(&[]).trials(), 1, "a run that has to start tries one");
    }

    #[test]
    fn what_runs_there_takes_room() {
        let nodes = [node("8", "16Gi")];
        let mut room = Room::of(&nodes);
        room.take(
            &nodes,
            &[
                pod("5", "n", "Running"),
                pod("5", "elsewhere", "Running"),
                pod("5", "n", "Succeeded"),
            ],
        );
        assert_eq!(room.trials(), 3);
        assert_eq!(room.to_string(), "3.0 processors, 15.5 GiB and 109 pods free");
    }
}
