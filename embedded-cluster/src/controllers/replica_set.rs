//! The ReplicaSet controller: keeps the wanted number of interchangeable pods of one template.
//!
//! Pods that match the selector and have no controller are not adopted.

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use serde_json::{Value, json};

use super::drive::{Reconciled, drive};
use super::error::{ControllerError, During};
use super::events::EventRecorder;
use super::hub::{Change, Hub, Object};
use super::owners::{controller_of_kind, controller_reference, is_controlled_by};
use super::pods::{self, available_in, is_finished, is_ready, is_terminating};

const COMPONENT: &str = "replicaset-controller";

/// Maximum number of pods created in one pass, as in kube-controller-manager.
const MAX_CREATED: usize = 500;

/// Runs the controller.
pub(crate) async fn run(hub: Arc<Hub>) {
    let store = hub.replica_sets.clone();
    drive(hub, store, concerns, |set, hub| reconcile(set, hub).boxed()).await;
}

fn concerns(change: &Change, _: &Hub) -> Vec<ObjectRef<ReplicaSet>> {
    match &change.object {
        Object::ReplicaSet(set) if !change.deleted => vec![ObjectRef::from_obj(set.as_ref())],
        Object::Pod(pod) => {
            let owner = controller_of_kind::<ReplicaSet>(&pod.metadata);
            let namespace = pod.namespace().unwrap_or_default();
            owner
                .map(|owner| ObjectRef::new(&owner.name).within(&namespace))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}

async fn reconcile(known: Arc<ReplicaSet>, hub: Arc<Hub>) -> Reconciled {
    let (namespace, name) = (known.namespace().unwrap_or_default(), known.name_any());
    let read = hub.api::<ReplicaSet>(&namespace).get_opt(&name).await;
    let Some(set) = read.during(|| format!("read ReplicaSet {namespace}/{name}"))? else {
        return Ok(Action::await_change());
    };
    let events = hub.events(COMPONENT);
    Work {
        hub,
        events,
        namespace,
        set,
    }
    .run()
    .await
}

struct Work {
    hub: Arc<Hub>,
    events: EventRecorder,
    namespace: String,
    set: ReplicaSet,
}

impl Work {
    async fn run(&self) -> Reconciled {
        let pods = self.pods().await?;
        let wanted = usize::try_from(wanted(&self.set)).unwrap_or(0);
        let mut acted = Ok(());
        if self.set.metadata.deletion_timestamp.is_none() {
            acted = match pods.len() {
                few if few < wanted => self.create((wanted - few).min(MAX_CREATED)).await,
                many => self.delete(surplus(&pods, many.saturating_sub(wanted))).await,
            };
        }
        let now = Timestamp::now();
        self.write_status(&status(&self.set, &pods, now)).await?;
        acted?;
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        let waits = pods
            .iter()
            .filter_map(|pod| available_in(pod, min_ready, now))
            .filter(|wait| !wait.is_zero());
        Ok(waits.min().map_or_else(Action::await_change, Action::requeue))
    }

    /// Returns the set's pods that run or are about to run.
    async fn pods(&self) -> Result<Vec<Pod>, ControllerError> {
        let name = self.set.name_any();
        let selector = self.set.spec.selector.clone();
        let selector = pods::selector(&format!("ReplicaSet {name}"), &selector)?;
        let listed = self
            .hub
            .api::<Pod>(&self.namespace)
            .list(&ListParams::default().labels_from(&selector))
            .await;
        let listed = listed.during(|| format!("list pods of ReplicaSet {name}"))?;
        let own = |pod: &Pod| {
            is_controlled_by(&pod.metadata, &self.set) && !is_finished(pod) && !is_terminating(pod)
        };
        Ok(listed.items.into_iter().filter(own).collect())
    }

    async fn create(&self, count: usize) -> Result<(), ControllerError> {
        let api = self.hub.api::<Pod>(&self.namespace);
        for _ in 0..count {
            match api.create(&PostParams::default(), &pod(&self.set)).await {
                Ok(made) => {
                    let message = format!("Created pod: {}", made.name_any());
                    self.events.normal(&self.set, "SuccessfulCreate", &message).await;
                }
                Err(error) => {
                    let message = format!("Error creating: {error}");
                    self.events.warning(&self.set, "FailedCreate", &message).await;
                    return Err(error)
                        .during(|| format!("create a pod of ReplicaSet {}", self.set.name_any()));
                }
            }
        }
        Ok(())
    }

    async fn delete(&self, pods: Vec<String>) -> Result<(), ControllerError> {
        let api = self.hub.api::<Pod>(&self.namespace);
        for name in pods {
            let deleted = api.delete(&name, &DeleteParams::default()).await;
            deleted.unless_gone().during(|| format!("delete pod {name}"))?;
            let message = format!("Deleted pod: {name}");
            self.events.normal(&self.set, "SuccessfulDelete", &message).await;
        }
        Ok(())
    }

    async fn write_status(&self, wanted: &ReplicaSetStatus) -> Result<(), ControllerError> {
        if self.set.status.as_ref() == Some(wanted) {
            return Ok(());
        }
        let name = self.set.name_any();
        let status = with_nulls(
            json!(wanted),
            &["readyReplicas", "availableReplicas", "fullyLabeledReplicas"],
        );
        let patch = Patch::Merge(json!({ "status": status }));
        let api = self.hub.api::<ReplicaSet>(&self.namespace);
        let written = api.patch_status(&name, &PatchParams::default(), &patch).await;
        written
            .unless_gone()
            .during(|| format!("write the status of ReplicaSet {name}"))
            .map(drop)
    }
}

/// Adds a null for each missing field. A merge patch keeps the fields that it does not name. A
/// count that returned to zero must be named to be removed.
pub(super) fn with_nulls(mut status: Value, fields: &[&str]) -> Value {
    for field in fields {
        if status.get(field).is_none() {
            status[*field] = Value::Null;
        }
    }
    status
}

/// Returns the number of replicas that a set should have.
pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            namespace: set.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// Returns the pods to delete: those without a node first, then those that are not ready, then the
/// youngest.
fn surplus(pods: &[Pod], count: usize) -> Vec<String> {
    let mut order: Vec<&Pod> = pods.iter().collect();
    order.sort_by_key(|pod| {
        let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (has_node, is_ready(pod), std::cmp::Reverse(created))
    });
    order.into_iter().take(count).map(ResourceExt::name_any).collect()
}

fn status(set: &ReplicaSet, pods: &[Pod], now: Timestamp) -> ReplicaSetStatus {
    let spec = &set.spec;
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let labels = spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref()?.labels.clone())
        .unwrap_or_default();
    let count = |holds: &dyn Fn(&Pod) -> bool| {
        i32::try_from(pods.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX)
    };
    let unless_zero = |count: i32| (count != 0).then_some(count);
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: unless_zero(count(&|pod| {
            labels
                .iter()
                .all(|(key, value)| pod.labels().get(key) == Some(value))
        })),
        ready_replicas: unless_zero(count(&is_ready)),
        available_replicas: unless_zero(count(&|pod| {
            available_in(pod, min_ready, now).is_some_and(|wait| wait.is_zero())
        })),
        observed_generation: set.metadata.generation,
        ..set.status.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_useful_pods_go_first() {
        let pod = |name: &str, node: &str, ready: &str, minute: u8| -> Pod {
            serde_yaml::from_str(&format!(
                "{{metadata: {{name: {name}, creationTimestamp: '2026-01-01T00:0{minute}:00Z'}}, spec: {{containers: []{node}}}, \
                 status: {{conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
            ))
            .expect("a Pod")
        };
        let pods = [
            pod("old", ", nodeName: n", "True", 0),
            pod("young", ", nodeName: n", "True", 5),
            pod("unready", ", nodeName: n", "False", 0),
            pod("pending", "", "False", 0),
        ];
        assert_eq!(surplus(&pods, 3), ["pending", "unready", "young"]);
        assert!(surplus(&pods, 0).is_empty());
    }
}
