//! Affinity, anti-affinity and topology spread, with kube-scheduler's words. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodAffinityTerm, TopologySpreadConstraint};
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::filter::matches_node;
use crate::controllers::pods::{is_finished, is_terminating};

/// The cluster state that a decision uses, apart from the pod.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) nodes: &'a [Arc<Node>],
    pub(crate) pods: &'a [Arc<Pod>],
    pub(crate) namespaces: &'a [Arc<Namespace>],
}

impl<'a> View<'a> {
    /// Returns the pods that are bound to a node and have not ended, each with its node.
    fn bound(self) -> impl Iterator<Item = (&'a Pod, &'a Node)> {
        let live = self.pods.iter().filter(|pod| !is_finished(pod));
        live.filter_map(move |pod| {
            let name = pod.spec.as_ref()?.node_name.as_ref()?;
            let node = self
                .nodes
                .iter()
                .find(|node| node.metadata.name.as_ref() == Some(name))?;
            Some((pod.as_ref(), node.as_ref()))
        })
    }

    /// Returns true if the term, which is a rule of `pod`, selects `other`.
    fn selects(self, term: &PodAffinityTerm, pod: &Pod, other: &Pod) -> bool {
        let namespace = other.namespace().unwrap_or_default();
        let named = term.namespaces.iter().flatten().any(|name| *name == namespace);
        let by_labels = term.namespace_selector.clone().is_some_and(|selector| {
            let labels = self.namespaces.iter().find(|found| found.name_any() == namespace);
            let labels = labels.map(|found| found.labels().clone()).unwrap_or_default();
            Selector::try_from(selector).is_ok_and(|selector| selector.matches(&labels))
        });
        let own = term.namespaces.iter().flatten().next().is_none()
            && term.namespace_selector.is_none()
            && pod.metadata.namespace == other.metadata.namespace;
        let Some(selector) = term.label_selector.clone() else {
            return false;
        };
        let selects = Selector::try_from(selector).is_ok_and(|selector| selector.matches(other.labels()));
        selects && (own || named || by_labels)
    }
}

/// Returns the reason why existing pods keep this one off the node.
pub(super) fn misfit(pod: &Pod, node: &Node, view: View<'_>) -> Option<String> {
    let reason = if let Some(reason) = spread(pod, node, view) {
        reason
    } else if !attracted(pod, node, view) {
        "node(s) didn't match pod affinity rules"
    } else if view
        .bound()
        .any(|(other, there)| repels(pod, node, other, there, view))
    {
        "node(s) didn't match pod anti-affinity rules"
    } else if view
        .bound()
        .any(|(other, there)| repels(other, there, pod, node, view))
    {
        "node(s) didn't satisfy existing pods anti-affinity rules"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// Returns true if every required affinity of the pod finds a pod in the node's topology domain. If
/// no pod matches any term, a pod that matches its own terms may be the first of its group.
fn attracted(pod: &Pod, node: &Node, view: View<'_>) -> bool {
    let affinity = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref()?.pod_affinity.as_ref());
    let terms = affinity.and_then(|affinity| {
        affinity
            .required_during_scheduling_ignored_during_execution
            .as_deref()
    });
    let terms = terms.unwrap_or_default();
    if terms
        .iter()
        .any(|term| !node.labels().contains_key(&term.topology_key))
    {
        return false;
    }
    let met = |term: &PodAffinityTerm| {
        let mut meant = view.bound().filter(|(other, _)| view.selects(term, pod, other));
        meant.any(|(_, there)| together(&term.topology_key, node, there))
    };
    let nobody = |term: &PodAffinityTerm| !view.bound().any(|(other, _)| view.selects(term, pod, other));
    terms.iter().all(met)
        || (terms.iter().all(nobody) && terms.iter().all(|term| view.selects(term, pod, pod)))
}

/// Returns true if `pod`, on its node, rejects the place where `other` is.
fn repels(pod: &Pod, node: &Node, other: &Pod, there: &Node, view: View<'_>) -> bool {
    if pod.metadata.uid == other.metadata.uid {
        return false;
    }
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let anti = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let terms = anti.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_ref());
    terms
        .into_iter()
        .flatten()
        .any(|term| together(&term.topology_key, node, there) && view.selects(term, pod, other))
}

/// Returns true if both nodes are in one topology domain.
fn together(key: &str, one: &Node, other: &Node) -> bool {
    one.labels()
        .get(key)
        .is_some_and(|value| other.labels().get(key) == Some(value))
}

/// Returns the reason why a spread constraint (`DoNotSchedule`) keeps the pod off the node.
fn spread(pod: &Pod, node: &Node, view: View<'_>) -> Option<&'static str> {
    let constraints = pod
        .spec
        .iter()
        .flat_map(|spec| spec.topology_spread_constraints.iter().flatten());
    let hard: Vec<_> = constraints
        .filter(|constraint| constraint.when_unsatisfiable == "DoNotSchedule")
        .collect();
    let complete = |node: &Node| {
        hard.iter()
            .all(|constraint| node.labels().contains_key(&constraint.topology_key))
    };
    if !complete(node) {
        return Some("node(s) didn't match pod topology spread constraints (missing required label)");
    }
    let candidates: Vec<&Arc<Node>> = view
        .nodes
        .iter()
        .filter(|node| complete(node) && matches_node(pod, node))
        .collect();
    hard.iter()
        .any(|constraint| is_skewed(constraint, pod, node, &candidates, view))
        .then_some("node(s) didn't match pod topology spread constraints")
}

fn is_skewed(
    constraint: &TopologySpreadConstraint,
    pod: &Pod,
    node: &Node,
    candidates: &[&Arc<Node>],
    view: View<'_>,
) -> bool {
    let key = &constraint.topology_key;
    let Ok(selector) = Selector::try_from(constraint.label_selector.clone().unwrap_or_default()) else {
        return false;
    };
    let keys = constraint.match_label_keys.iter().flatten();
    let same = |other: &Pod| {
        keys.clone()
            .all(|key| pod.labels().get(key) == other.labels().get(key))
    };
    let counted = |other: &Pod| {
        constraint.label_selector.is_some()
            && other.metadata.namespace == pod.metadata.namespace
            && selector.matches(other.labels())
            && same(other)
    };
    let mut parts: BTreeMap<&str, i64> = candidates
        .iter()
        .filter_map(|node| Some((node.labels().get(key)?.as_str(), 0)))
        .collect();
    for (other, there) in view.bound() {
        let part = there
            .labels()
            .get(key)
            .and_then(|value| parts.get_mut(value.as_str()));
        if let Some(count) = part.filter(|_| counted(other) && !is_terminating(other)) {
            *count += 1;
        }
    }
    let wanted = usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1);
    let least = if parts.len() < wanted {
        0
    } else {
        parts.values().copied().min().unwrap_or(0)
    };
    let here = node
        .labels()
        .get(key)
        .and_then(|value| parts.get(value.as_str()))
        .copied()
        .unwrap_or(0);
    here + i64::from(counted(pod)) - least > i64::from(constraint.max_skew)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, zone: &str) -> Arc<Node> {
        let text = format!(
            "{{metadata: {{name: {name}, labels: {{kubernetes.io/hostname: {name}, zone: {zone}}}}}}}"
        );
        Arc::new(serde_yaml::from_str(&text).expect("a Node"))
    }

    fn pod(name: &str, app: &str, spec: &str) -> Arc<Pod> {
        let text = format!(
            "{{metadata: {{name: {name}, namespace: shop, uid: {name}, labels: {{app: {app}}}}}, spec: {{containers: [], {spec}}}}}"
        );
        Arc::new(serde_yaml::from_str(&text).expect("a Pod"))
    }

    /// Returns the nodes on which the pod may run.
    fn may_go(pod: &Pod, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Vec<String> {
        let view = View {
            nodes,
            pods,
            namespaces: &[],
        };
        let fitting = nodes.iter().filter(|node| misfit(pod, node, view).is_none());
        fitting.map(|node| node.name_any()).collect()
    }

    fn near(key: &str, app: &str) -> String {
        format!(
            "affinity: {{podAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: \
             [{{topologyKey: {key}, labelSelector: {{matchLabels: {{app: {app}}}}}}}]}}}}"
        )
    }

    #[test]
    fn affinity_follows_the_topology() {
        let nodes = [node("a", "1"), node("b", "1"), node("c", "2")];
        let there = [pod("db", "db", "nodeName: a")];
        assert_eq!(
            may_go(&pod("x", "web", &near("zone", "db")), &nodes, &there),
            ["a", "b"]
        );
        assert_eq!(
            may_go(
                &pod("x", "web", &near("kubernetes.io/hostname", "db")),
                &nodes,
                &there
            ),
            ["a"]
        );
        assert!(may_go(&pod("x", "web", &near("rack", "db")), &nodes, &there).is_empty());
        assert!(may_go(&pod("x", "web", &near("zone", "none")), &nodes, &there).is_empty());
        // The first of its kind may run anywhere; the second must follow it.
        assert_eq!(
            may_go(&pod("x", "web", &near("zone", "web")), &nodes, &there).len(),
            3
        );
        let first = [pod("w", "web", "nodeName: c")];
        assert_eq!(
            may_go(&pod("x", "web", &near("zone", "web")), &nodes, &first),
            ["c"]
        );
    }

    #[test]
    fn anti_affinity_follows_the_topology() {
        let nodes = [node("a", "1"), node("b", "1"), node("c", "2")];
        let there = [pod("db", "db", "nodeName: a")];
        let away = |key: &str| near(key, "db").replace("podAffinity", "podAntiAffinity");
        assert_eq!(may_go(&pod("x", "web", &away("zone")), &nodes, &there), ["c"]);
        assert_eq!(
            may_go(&pod("x", "web", &away("kubernetes.io/hostname")), &nodes, &there),
            ["b", "c"]
        );
        assert_eq!(may_go(&pod("x", "web", &away("rack")), &nodes, &there).len(), 3);
    }

    #[test]
    fn spread_keeps_the_skew() {
        let nodes = [node("a", "1"), node("b", "1"), node("c", "2")];
        let wish = |key: &str| {
            format!(
                "topologySpreadConstraints: [{{maxSkew: 1, topologyKey: {key}, whenUnsatisfiable: DoNotSchedule, \
                 labelSelector: {{matchLabels: {{app: web}}}}}}]"
            )
        };
        let there = [pod("w", "web", "nodeName: a")];
        assert_eq!(may_go(&pod("x", "web", &wish("zone")), &nodes, &there), ["c"]);
        assert_eq!(
            may_go(&pod("x", "web", &wish("kubernetes.io/hostname")), &nodes, &there),
            ["b", "c"]
        );
        assert!(may_go(&pod("x", "web", &wish("rack")), &nodes, &there).is_empty());
        let soft = wish("rack").replace("DoNotSchedule", "ScheduleAnyway");
        assert_eq!(may_go(&pod("x", "web", &soft), &nodes, &there).len(), 3);
    }
}
