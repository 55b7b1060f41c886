//! Reconciliation of a budget: writes its status when it changes.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;

use super::budget::{counts, status};
use crate::controllers::drive::Reconciled;
use crate::controllers::error::During;
use crate::controllers::hub::Hub;
use crate::controllers::owners::controller_of;
use crate::controllers::pods;

const COMPONENT: &str = "controllermanager";

/// Reconciles the status of one budget.
pub(crate) async fn reconcile(budget: Arc<PodDisruptionBudget>, hub: Arc<Hub>) -> Reconciled {
    let (namespace, name) = (budget.namespace().unwrap_or_default(), budget.name_any());
    let Some(spec) = &budget.spec else {
        return Ok(Action::await_change());
    };
    let all = hub
        .pods
        .state_filter(|pod| pod.namespace().as_ref() == Some(&namespace));
    // A budget without a selector covers no pod; a budget with an empty selector covers every pod.
    let selector = spec.selector.as_ref();
    let selector = selector
        .map(|s| pods::selector(&format!("PodDisruptionBudget {name}"), s))
        .transpose()?;
    let selected = |pod: &&Arc<_>| {
        selector
            .as_ref()
            .is_some_and(|selector| pods::matches(selector, pod))
            && !pods::is_finished(pod)
    };
    let selected: Vec<_> = all.iter().filter(selected).map(AsRef::as_ref).collect();
    let counted = counts(spec, &selected, |owner| scale(&hub, &namespace, owner));
    if let Err(why) = &counted {
        let message = format!("Failed to calculate the number of expected pods: {why}");
        hub.events(COMPONENT)
            .warning(budget.as_ref(), "CalculateExpectedPodCountFailed", &message)
            .await;
    }
    let known = budget.status.clone().unwrap_or_default();
    let wanted = status(
        &known,
        &selected,
        counted.as_ref(),
        budget.metadata.generation,
        Timestamp::now(),
    );
    if known != wanted {
        let mut status = json!(wanted);
        // A merge patch keeps the entries of the map that it does not name. Entries to remove must
        // be named.
        let gone = known.disrupted_pods.iter().flatten().map(|(name, _)| name);
        for name in gone.filter(|name| {
            !wanted
                .disrupted_pods
                .iter()
                .flatten()
                .any(|(kept, _)| kept == *name)
        }) {
            status["disruptedPods"][name] = serde_json::Value::Null;
        }
        let patch = Patch::Merge(json!({ "status": status }));
        let api = hub.api::<PodDisruptionBudget>(&namespace);
        let written = api.patch_status(&name, &PatchParams::default(), &patch).await;
        written
            .unless_gone()
            .during(|| format!("write the status of budget {name}"))?;
    }
    Ok(Action::await_change())
}

/// Returns the number of replicas that a pod's controller wants.
fn scale(hub: &Hub, namespace: &str, owner: &OwnerReference) -> Result<i32, String> {
    match owner.kind.as_str() {
        "StatefulSet" => {
            let set = hub
                .stateful_sets
                .get(&ObjectRef::<StatefulSet>::new(&owner.name).within(namespace));
            let replicas = set.map(|set| set.spec.replicas.unwrap_or(1));
            replicas.ok_or_else(|| format!("statefulsets.apps \"{}\" not found", owner.name))
        }
        "ReplicaSet" => {
            let set = hub
                .replica_sets
                .get(&ObjectRef::<ReplicaSet>::new(&owner.name).within(namespace));
            let set = set.ok_or_else(|| format!("replicasets.apps \"{}\" not found", owner.name))?;
            match controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment") {
                Some(owner) => {
                    let deployment = hub
                        .deployments
                        .get(&ObjectRef::<Deployment>::new(&owner.name).within(namespace));
                    let spec = deployment.map(|deployment| deployment.spec.clone());
                    let replicas = spec.map(|spec| spec.replicas.unwrap_or(1));
                    replicas.ok_or_else(|| format!("deployments.apps \"{}\" not found", owner.name))
                }
                None => Ok(set.spec.replicas.unwrap_or(1)),
            }
        }
        kind => {
            let group = owner
                .api_version
                .split_once('/')
                .map(|(group, _)| format!(".{group}"));
            let resource = format!("{}s{}", kind.to_lowercase(), group.unwrap_or_default());
            Err(format!("{resource} does not implement the scale subresource"))
        }
    }
}
