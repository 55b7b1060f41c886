//! Whether a node fits a pod, with kube-scheduler's words when it does not.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm, Taint, Toleration,
};
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::quantity::thousandths;
use crate::controllers::pods::is_finished;

/// kube-scheduler's reason why this node does not fit the pod; `None` when it does. `others` are all pods.
pub(crate) fn misfit<'a>(
    pod: &Pod,
    node: &Node,
    others: impl Iterator<Item = &'a Pod> + Clone,
) -> Option<String> {
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        return Some("node(s) were unschedulable".to_owned());
    }
    if !matches_node(pod, node) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    if let Some(taint) = untolerated(pod, node) {
        let (key, value) = (&taint.key, taint.value.as_deref().unwrap_or_default());
        return Some(format!("node(s) had untolerated taint {{{key}: {value}}}"));
    }
    let name = node.name_any();
    let here = others.filter(move |other| {
        other.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&name) && !is_finished(other)
    });
    if let Some(resource) = lacking(pod, node, &here) {
        return Some(resource);
    }
    if here.clone().any(|other| repels(pod, other)) {
        return Some("node(s) didn't match pod anti-affinity rules".to_owned());
    }
    if here.clone().any(|other| repels(other, pod)) {
        return Some("node(s) didn't satisfy existing pods anti-affinity rules".to_owned());
    }
    None
}

fn matches_node(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = node.labels();
    if spec
        .node_selector
        .iter()
        .flatten()
        .any(|(key, value)| labels.get(key) != Some(value))
    {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| {
        required
            .node_selector_terms
            .iter()
            .any(|term| term_matches(term, node))
    })
}

/// A term matches when all its expressions do; one without any matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let fields: BTreeMap<String, String> = [("metadata.name".to_owned(), node.name_any())].into();
    let expressions = term
        .match_expressions
        .iter()
        .flatten()
        .map(|e| (e, node.labels()));
    let mut all = expressions
        .chain(term.match_fields.iter().flatten().map(|e| (e, &fields)))
        .peekable();
    all.peek().is_some() && all.all(|(requirement, labels)| requirement_holds(requirement, labels))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.iter().flatten();
    let number = |text: &String| text.parse::<i64>().ok();
    let compared = || Some((number(value?)?, number(requirement.values.as_ref()?.first()?)?));
    match requirement.operator.as_str() {
        "In" => values.into_iter().any(|wanted| Some(wanted) == value),
        "NotIn" => !requirement
            .values
            .iter()
            .flatten()
            .any(|wanted| Some(wanted) == value),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(value, bound)| value > bound),
        "Lt" => compared().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

fn untolerated<'a>(pod: &Pod, node: &'a Node) -> Option<&'a Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let tolerations = || pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    taints
        .filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute")
        .find(|taint| !tolerations().any(|toleration| tolerates(toleration, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let exists = toleration.operator.as_deref() == Some("Exists");
    given(&toleration.effect).is_none_or(|effect| effect == taint.effect)
        && match given(&toleration.key) {
            None => exists,
            Some(key) => {
                key == taint.key
                    && (exists
                        || toleration.value.clone().unwrap_or_default()
                            == taint.value.clone().unwrap_or_default())
            }
        }
}

/// The first resource of which the node has too little left, in kube-scheduler's words.
fn lacking<'a>(pod: &Pod, node: &Node, here: &(impl Iterator<Item = &'a Pod> + Clone)) -> Option<String> {
    let allocatable = node
        .status
        .as_ref()
        .and_then(|status| status.allocatable.as_ref())?;
    let pods = i128::try_from(here.clone().count() + 1).unwrap_or(i128::MAX);
    if allocatable
        .get("pods")
        .and_then(thousandths)
        .is_some_and(|most| pods.saturating_mul(1000) > most)
    {
        return Some("Too many pods".to_owned());
    }
    ["cpu", "memory"].into_iter().find_map(|resource| {
        let room = allocatable.get(resource).and_then(thousandths)?;
        let wanted = requested(pod, resource);
        let taken: i128 = here.clone().map(|other| requested(other, resource)).sum();
        (wanted > 0 && taken + wanted > room).then(|| format!("Insufficient {resource}"))
    })
}

/// The pod's effective request: its containers' sum, or its largest init container's.
fn requested(pod: &Pod, resource: &str) -> i128 {
    let of = |container: &k8s_openapi::api::core::v1::Container| {
        let resources = container.resources.as_ref();
        let quantity = resources.and_then(|r| {
            r.requests
                .as_ref()
                .and_then(|m| m.get(resource))
                .or_else(|| r.limits.as_ref()?.get(resource))
        });
        quantity.and_then(thousandths).unwrap_or(0)
    };
    let Some(spec) = &pod.spec else { return 0 };
    let running: i128 = spec.containers.iter().map(of).sum();
    let initial = spec.init_containers.iter().flatten().map(of).max().unwrap_or(0);
    running.max(initial)
}

/// Whether `pod` does not want to be where `other` is. Any topology is the same on one node.
fn repels(pod: &Pod, other: &Pod) -> bool {
    if pod.metadata.uid == other.metadata.uid {
        return false;
    }
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let anti = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let terms = anti.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_ref());
    terms
        .into_iter()
        .flatten()
        .any(|term| term_selects(term, pod, other))
}

fn term_selects(term: &PodAffinityTerm, pod: &Pod, other: &Pod) -> bool {
    let everywhere = term.namespace_selector.is_some();
    let named = term
        .namespaces
        .as_ref()
        .is_some_and(|namespaces| namespaces.contains(&other.namespace().unwrap_or_default()));
    let own = term.namespaces.as_ref().is_none_or(Vec::is_empty)
        && pod.metadata.namespace == other.metadata.namespace;
    let Some(selector) = term.label_selector.clone() else {
        return false;
    };
    let selects = Selector::try_from(selector).is_ok_and(|selector| selector.matches(other.labels()));
    selects && (everywhere || named || own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, spec: &str) -> Pod {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: {name}, namespace: shop, uid: {name}, labels: {{app: valkey}}}}, spec: {{containers: [], {spec}}}}}"
        ))
        .expect("a Pod")
    }

    fn node(spec: &str) -> Node {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: n, labels: {{kubernetes.io/hostname: n, disk: ssd}}}}, spec: {{{spec}}}, \
             status: {{allocatable: {{cpu: '2', memory: 1Gi, pods: '110'}}}}}}"
        ))
        .expect("a Node")
    }

    fn verdict(pod: &Pod, node: &Node, others: &[Pod]) -> String {
        misfit(pod, node, others.iter()).unwrap_or_else(|| "fits".to_owned())
    }

    const ANTI: &str = "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
        [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: valkey}}}]}}";

    #[test]
    fn node_selectors_and_affinities_are_kept() {
        assert_eq!(
            verdict(&pod("a", "nodeSelector: {disk: ssd}"), &node(""), &[]),
            "fits"
        );
        let elsewhere = verdict(&pod("a", "nodeSelector: {disk: hdd}"), &node(""), &[]);
        assert_eq!(elsewhere, "node(s) didn't match Pod's node affinity/selector");
        let affinity = |operator: &str| {
            pod(
                "a",
                &format!(
                    "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: \
                 [{{matchExpressions: [{{key: disk, operator: {operator}, values: [ssd]}}]}}]}}}}}}"
                ),
            )
        };
        assert_eq!(verdict(&affinity("In"), &node(""), &[]), "fits");
        assert_ne!(verdict(&affinity("NotIn"), &node(""), &[]), "fits");
    }

    #[test]
    fn taints_need_tolerations() {
        let tainted = node("taints: [{key: dedicated, value: db, effect: NoSchedule}]");
        assert_eq!(
            verdict(&pod("a", ""), &tainted, &[]),
            "node(s) had untolerated taint {dedicated: db}"
        );
        let tolerant = pod(
            "a",
            "tolerations: [{key: dedicated, operator: Equal, value: db, effect: NoSchedule}]",
        );
        assert_eq!(verdict(&tolerant, &tainted, &[]), "fits");
        assert_eq!(
            verdict(&pod("a", "tolerations: [{operator: Exists}]"), &tainted, &[]),
            "fits"
        );
    }

    #[test]
    fn anti_affinity_holds_both_ways() {
        let there = pod("b", "nodeName: n");
        let says = verdict(&pod("a", ANTI), &node(""), std::slice::from_ref(&there));
        assert_eq!(says, "node(s) didn't match pod anti-affinity rules");
        let there = pod("b", &format!("nodeName: n, {ANTI}"));
        assert_eq!(
            verdict(&pod("a", ""), &node(""), &[there]),
            "node(s) didn't satisfy existing pods anti-affinity rules"
        );
    }

    #[test]
    fn requests_beyond_the_node_do_not_fit() {
        let of = |name: &str, cpu: &str, more: &str| {
            let mut pod = pod(name, more);
            pod.spec.as_mut().expect("spec").containers =
                serde_yaml::from_str(&format!("[{{name: c, resources: {{requests: {{cpu: {cpu}}}}}}}]"))
                    .expect("containers");
            pod
        };
        let there = of("b", "1500m", "nodeName: n");
        assert_eq!(
            verdict(&of("a", "600m", ""), &node(""), std::slice::from_ref(&there)),
            "Insufficient cpu"
        );
        assert_eq!(verdict(&of("a", "500m", ""), &node(""), &[there]), "fits");
    }
}
