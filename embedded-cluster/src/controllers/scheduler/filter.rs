//! Node filters for a pod, with kube-scheduler's messages when a node does not fit.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};
use kube::ResourceExt;

use super::topology::{self, View};
use crate::controllers::pods::is_finished;
use crate::quantity::Amount;

/// Returns kube-scheduler's reason why this node does not fit the pod; `None` when it fits.
pub(crate) fn misfit(pod: &Pod, node: &Node, view: View<'_>) -> Option<String> {
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
    let here = view.pods.iter().map(AsRef::as_ref).filter(move |other: &&Pod| {
        other.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&name) && !is_finished(other)
    });
    if let Some(resource) = lacking(pod, node, &here) {
        return Some(resource);
    }
    topology::misfit(pod, node, view)
}

/// Returns true if the pod's node selector and required node affinity match this node.
pub(super) fn matches_node(pod: &Pod, node: &Node) -> bool {
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

/// Returns true if all expressions of the term match. A term without expressions matches nothing.
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

/// Returns true if the toleration applies to this taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
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

/// Returns the first resource that the node lacks, in kube-scheduler's words. A resource that the
/// node does not declare (an extended one, such as a GPU) counts as zero.
fn lacking<'a>(pod: &Pod, node: &Node, here: &(impl Iterator<Item = &'a Pod> + Clone)) -> Option<String> {
    let allocatable = node
        .status
        .as_ref()
        .and_then(|status| status.allocatable.as_ref())?;
    let room = |resource: &str| {
        allocatable
            .get(resource)
            .and_then(|quantity| Amount::parse(&quantity.0))
    };
    let pods = i128::try_from(here.clone().count() + 1).unwrap_or(i128::MAX);
    if room("pods").is_some_and(|most| Amount::of_units(pods) > most) {
        return Some("Too many pods".to_owned());
    }
    requested_resources(pod).into_iter().find_map(|resource| {
        let wanted = requested(pod, resource);
        let room = match (room(resource), resource) {
            (Some(room), _) => room,
            // A node that does not declare these has not been measured.
            (None, "cpu" | "memory" | "ephemeral-storage") => return None,
            (None, _) => Amount::ZERO,
        };
        let taken = here
            .clone()
            .map(|other| requested(other, resource))
            .fold(Amount::ZERO, Amount::plus);
        (wanted > Amount::ZERO && taken.plus(wanted) > room).then(|| format!("Insufficient {resource}"))
    })
}

/// Returns the resources that any container of the pod requests, cpu and memory first.
fn requested_resources(pod: &Pod) -> Vec<&str> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
    });
    let resources = containers.filter_map(|container| container.resources.as_ref());
    let named = resources.flat_map(|r| r.requests.iter().flatten().chain(r.limits.iter().flatten()));
    let names: BTreeSet<&str> = named.map(|(name, _)| name.as_str()).collect();
    names.into_iter().collect()
}

/// Returns the pod's effective request. This is the sum of its containers and sidecars. If larger,
/// it is an init container plus the sidecars before it.
fn requested(pod: &Pod, resource: &str) -> Amount {
    let of = |container: &Container| {
        let resources = container.resources.as_ref();
        let quantity = resources.and_then(|r| {
            r.requests
                .as_ref()
                .and_then(|m| m.get(resource))
                .or_else(|| r.limits.as_ref()?.get(resource))
        });
        quantity
            .and_then(|quantity| Amount::parse(&quantity.0))
            .unwrap_or(Amount::ZERO)
    };
    let Some(spec) = &pod.spec else {
        return Amount::ZERO;
    };
    let (mut sidecars, mut initial) = (Amount::ZERO, Amount::ZERO);
    for container in spec.init_containers.iter().flatten() {
        let needed = sidecars.plus(of(container));
        initial = initial.max(needed);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = needed;
        }
    }
    let running = spec.containers.iter().map(of).fold(sidecars, Amount::plus);
    running.max(initial)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
        let nodes = [Arc::new(node.clone())];
        let pods: Vec<_> = others.iter().cloned().map(Arc::new).collect();
        let view = View {
            nodes: &nodes,
            pods: &pods,
            namespaces: &[],
        };
        misfit(pod, node, view).unwrap_or_else(|| "fits".to_owned())
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

    #[test]
    fn extended_resources_and_sidecars_count() {
        let of = |spec: &str| pod("a", spec);
        let gpu = "initContainers: [{name: i, resources: {limits: {example.com/gpu: 1}}}]";
        assert_eq!(verdict(&of(gpu), &node(""), &[]), "Insufficient example.com/gpu");
        let sidecar = "initContainers: [{name: s, restartPolicy: Always, resources: {requests: {cpu: '1'}}}, \
            {name: i, resources: {requests: {cpu: 1500m}}}]";
        assert_eq!(verdict(&of(sidecar), &node(""), &[]), "Insufficient cpu");
        let alone = sidecar.replace("restartPolicy: Always, ", "");
        assert_eq!(verdict(&of(&alone), &node(""), &[]), "fits");
    }
}
