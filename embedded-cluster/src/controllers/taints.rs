//! Eviction for `NoExecute` taints. A pod without a toleration is deleted at once, one with a time
//! limit after that time. Follows the taint eviction controller of kube-controller-manager.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;

use super::drive::{Reconciled, drive};
use super::error::During;
use super::hub::{Change, Hub, Object};
use super::pods;
use super::scheduler::tolerates;
use crate::seconds::bounded;

const COMPONENT: &str = "taint-eviction-controller";

/// Runs the controller.
pub(crate) async fn run(hub: Arc<Hub>) {
    let store = hub.pods.clone();
    drive(hub, store, concerns, |pod, hub| reconcile(pod, hub).boxed()).await;
}

fn concerns(change: &Change, hub: &Hub) -> Vec<ObjectRef<Pod>> {
    match &change.object {
        Object::Pod(pod) if !change.deleted && node_of(pod).is_some() => {
            let tainted = hub
                .nodes
                .state_filter(|node| Some(node.name_any().as_str()) == node_of(pod) && is_tainted(node));
            tainted
                .iter()
                .map(|_| ObjectRef::from_obj(pod.as_ref()))
                .collect()
        }
        // Includes nodes whose taint is gone: pods with a scheduled deletion may stay.
        Object::Node(node) if !change.deleted => {
            let there = hub
                .pods
                .state_filter(|pod| node_of(pod) == Some(node.name_any().as_str()));
            there
                .iter()
                .map(|pod| ObjectRef::from_obj(pod.as_ref()))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn taints(node: &Node) -> Vec<Taint> {
    let all = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    all.filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

fn is_tainted(node: &Node) -> bool {
    !taints(node).is_empty()
}

/// Returns the time that the pod may stay under these taints: `None` for an unlimited time.
fn may_stay(pod: &Pod, taints: &[Taint]) -> Option<Duration> {
    let tolerations = || pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let mut stay = None;
    for taint in taints {
        let tolerating: Vec<_> = tolerations()
            .filter(|toleration| tolerates(toleration, taint))
            .collect();
        if tolerating.is_empty() {
            return Some(Duration::ZERO);
        }
        let limits = tolerating
            .iter()
            .filter_map(|toleration| toleration.toleration_seconds);
        if let Some(limit) = limits.min().map(bounded) {
            stay = Some(stay.map_or(limit, |stay: Duration| stay.min(limit)));
        }
    }
    stay
}

async fn reconcile(pod: Arc<Pod>, hub: Arc<Hub>) -> Reconciled {
    let Some(node) = node_of(&pod).and_then(|name| hub.nodes.get(&ObjectRef::new(name))) else {
        return Ok(Action::await_change());
    };
    let uid = pod.uid().unwrap_or_default();
    let taints = taints(&node);
    let stay = may_stay(&pod, &taints).filter(|_| !pods::is_terminating(&pod));
    let now = Timestamp::now();
    let Some(stay) = stay else {
        hub.tainted_since(&uid, None);
        return Ok(Action::await_change());
    };
    let since = hub.tainted_since(&uid, Some(now)).unwrap_or(now);
    let elapsed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    if elapsed < stay {
        return Ok(Action::requeue(stay - elapsed));
    }
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let message = format!("Marking for deletion Pod {namespace}/{name}");
    hub.events(COMPONENT)
        .normal(pod.as_ref(), "TaintManagerEviction", &message)
        .await;
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
    let patch = Patch::Strategic(json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}}));
    let api = hub.api::<Pod>(&namespace);
    let marked = api.patch_status(&name, &PatchParams::default(), &patch).await;
    marked
        .unless_gone()
        .during(|| format!("mark pod {name} for its deletion"))?;
    let deleted = api.delete(&name, &DeleteParams::default()).await;
    deleted
        .unless_gone()
        .during(|| format!("delete pod {name} from its tainted node"))?;
    hub.tainted_since(&uid, None);
    Ok(Action::await_change())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stay(tolerations: &str) -> Option<Duration> {
        let pod = serde_yaml::from_str(&format!(
            "{{spec: {{containers: [], tolerations: {tolerations}}}}}"
        ));
        let node: Node = serde_yaml::from_str(
            "{spec: {taints: [{key: gone, effect: NoExecute}, {key: other, effect: NoSchedule}]}}",
        )
        .expect("a Node");
        may_stay(&pod.expect("a Pod"), &taints(&node))
    }

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates() {
        assert_eq!(stay("[]"), Some(Duration::ZERO));
        assert_eq!(stay("[{key: gone, operator: Exists}]"), None);
        assert_eq!(
            stay("[{key: gone, operator: Exists, effect: NoExecute, tolerationSeconds: 30}]"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            stay("[{key: gone, operator: Exists, effect: NoSchedule}]"),
            Some(Duration::ZERO)
        );
        assert_eq!(stay("[{operator: Exists}]"), None);
    }
}
