//! Assignment of a node to a waiting pod: claims first, then the binding. Reports the reason when
//! no node fits.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::response::Status;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use serde_json::json;

use super::filter::misfit;
use super::topology::View;
use super::waits;
use crate::controllers::claims::{self, SELECTED_NODE};
use crate::controllers::drive::Reconciled;
use crate::controllers::error::{ControllerError, During};
use crate::controllers::events::EventRecorder;
use crate::controllers::hub::Hub;
use crate::controllers::pods::{claim_names, condition, is_finished};

const COMPONENT: &str = "default-scheduler";

/// kube-scheduler's message for a claim that only one pod may use.
const EXCLUSIVE: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

/// Binds one pod, if possible.
pub(crate) async fn reconcile(known: Arc<Pod>, hub: Arc<Hub>) -> Reconciled {
    if !waits(&known) {
        return Ok(Action::await_change());
    }
    let mut assumed = hub.assumed.lock().await;
    let namespace = known.namespace().unwrap_or_default();
    let name = known.name_any();
    let read = hub.api::<Pod>(&namespace).get_opt(&name).await;
    let Some(pod) = read.during(|| format!("read pod {name}"))?.filter(waits) else {
        return Ok(Action::await_change());
    };
    let work = Work {
        events: hub.events(COMPONENT),
        hub: hub.clone(),
        namespace,
        pod,
    };
    work.run(&mut assumed).await.map(|()| Action::await_change())
}

struct Work {
    hub: Arc<Hub>,
    events: EventRecorder,
    namespace: String,
    pod: Pod,
}

impl Work {
    async fn run(&self, assumed: &mut Vec<Arc<Pod>>) -> Result<(), ControllerError> {
        let nodes = self.hub.nodes.state();
        let pods = with_assumed(&self.hub.pods, assumed);
        let exclusive = self.exclusive_claim_in_use(&pods).await?;
        let view = View {
            nodes: &nodes,
            pods: &pods,
            namespaces: &self.hub.namespaces.state(),
        };
        let misfits: Vec<_> = nodes
            .iter()
            .map(|node| {
                exclusive
                    .then(|| EXCLUSIVE.to_owned())
                    .or_else(|| misfit(&self.pod, node, view))
            })
            .collect();
        let fitting = nodes.iter().zip(&misfits).filter(|(_, misfit)| misfit.is_none());
        let Some((node, _)) = fitting.min_by_key(|(node, _)| pods_on(node, &pods)) else {
            return self.unschedulable(&no_node(&misfits)).await;
        };
        match self.claims(node).await? {
            Claims::Bound => {
                self.bind(&node.name_any()).await?;
                let mut bound = self.pod.clone();
                bound.spec.get_or_insert_default().node_name = Some(node.name_any());
                assumed.push(Arc::new(bound));
                Ok(())
            }
            Claims::Waiting => Ok(()),
            Claims::Impossible(why) => {
                let count = nodes.len();
                let message = format!("0/{count} nodes are available: {why}. {}", not_helpful(count));
                self.unschedulable(&message).await
            }
        }
    }

    /// Returns true if another pod uses one of the pod's claims and the claim allows only one pod
    /// (`ReadWriteOncePod`).
    async fn exclusive_claim_in_use(&self, pods: &[Arc<Pod>]) -> Result<bool, ControllerError> {
        let api = self.hub.api::<PersistentVolumeClaim>(&self.namespace);
        for name in claim_names(&self.pod) {
            let shared = pods.iter().any(|other| {
                other.metadata.uid != self.pod.metadata.uid
                    && other.metadata.namespace == self.pod.metadata.namespace
                    && !waits(other)
                    && !is_finished(other)
                    && claim_names(other).any(|used| used == name)
            });
            if !shared {
                continue;
            }
            let claim = api.get_opt(name).await.during(|| format!("read claim {name}"))?;
            let modes = claim
                .and_then(|claim| claim.spec?.access_modes)
                .unwrap_or_default();
            if modes.iter().any(|mode| mode == "ReadWriteOncePod") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Names the node on the pod's unbound claims, so that their volumes are created there. The
    /// later binding of a claim is a change that triggers this pod's reconciliation again.
    async fn claims(&self, node: &Node) -> Result<Claims, ControllerError> {
        let api = self.hub.api::<PersistentVolumeClaim>(&self.namespace);
        let mut waiting = false;
        for name in claim_names(&self.pod) {
            let Some(claim) = api.get_opt(name).await.during(|| format!("read claim {name}"))? else {
                return Ok(Claims::Impossible(format!(
                    "persistentvolumeclaim \"{name}\" not found"
                )));
            };
            if claim.metadata.deletion_timestamp.is_some() {
                let why = format!("persistentvolumeclaim \"{name}\" is being deleted");
                return Ok(Claims::Impossible(why));
            }
            if claims::is_bound(&claim) {
                continue;
            }
            if !claims::waits_for_consumer(&claim, &self.hub.storage_classes.state()) {
                let why = "pod has unbound immediate PersistentVolumeClaims".to_owned();
                return Ok(Claims::Impossible(why));
            }
            waiting = true;
            if !claim.annotations().contains_key(SELECTED_NODE) {
                let patch = json!({ "metadata": { "annotations": { SELECTED_NODE: node.name_any() } } });
                let patched = api
                    .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                    .await;
                patched
                    .unless_gone()
                    .during(|| format!("select the node of claim {name}"))?;
            }
        }
        Ok(if waiting { Claims::Waiting } else { Claims::Bound })
    }

    async fn bind(&self, node: &str) -> Result<(), ControllerError> {
        let name = self.pod.name_any();
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(self.namespace.clone()),
                uid: self.pod.metadata.uid.clone(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let api = self.hub.api::<Pod>(&self.namespace);
        let bound: kube::Result<Status> = api
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await;
        if bound
            .unless_gone()
            .during(|| format!("bind pod {name} to {node}"))?
            .is_some()
        {
            let message = format!("Successfully assigned {}/{name} to {node}", self.namespace);
            self.events.normal(&self.pod, "Scheduled", &message).await;
        }
        Ok(())
    }

    async fn unschedulable(&self, message: &str) -> Result<(), ControllerError> {
        let known = condition(&self.pod, "PodScheduled").and_then(|known| known.message.as_deref());
        if known == Some(message) {
            return Ok(());
        }
        self.events.warning(&self.pod, "FailedScheduling", message).await;
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        let name = self.pod.name_any();
        let patch = Patch::Strategic(json!({ "status": { "phase": "Pending", "conditions": [condition] } }));
        let api = self.hub.api::<Pod>(&self.namespace);
        let written = api.patch_status(&name, &PatchParams::default(), &patch).await;
        written
            .unless_gone()
            .during(|| format!("write the status of pod {name}"))
            .map(drop)
    }
}

/// Returns the number of pods that are on the node.
fn pods_on(node: &Node, pods: &[Arc<Pod>]) -> usize {
    let name = node.metadata.name.as_deref();
    pods.iter()
        .filter(|pod| {
            pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == name && !is_finished(pod)
        })
        .count()
}

/// Returns every pod. Pods that were just bound have their new node, even if the store is stale.
/// Forgets assumed pods that the store shows as bound or no longer has.
fn with_assumed(store: &Store<Pod>, assumed: &mut Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
    assumed.retain(|pod| {
        let shown = store.get(&ObjectRef::from_obj(pod.as_ref()));
        shown.is_some_and(|shown| shown.metadata.uid == pod.metadata.uid && waits(&shown))
    });
    let mut pods = store.state();
    pods.extend(assumed.iter().cloned());
    pods
}

enum Claims {
    Bound,
    Waiting,
    Impossible(String),
}

/// Returns kube-scheduler's summary: each reason with the number of nodes to which it applies.
fn no_node(misfits: &[Option<String>]) -> String {
    let count = misfits.len();
    if count == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut reasons: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for reason in misfits.iter().flatten() {
        *reasons.entry(reason).or_default() += 1;
    }
    let reasons: Vec<_> = reasons
        .iter()
        .map(|(reason, nodes)| format!("{nodes} {reason}"))
        .collect();
    format!(
        "0/{count} nodes are available: {}. {}",
        reasons.join(", "),
        not_helpful(count)
    )
}

fn not_helpful(count: usize) -> String {
    format!("preemption: 0/{count} nodes are available: {count} Preemption is not helpful for scheduling.")
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;

    use super::*;

    fn pod(uid: &str, node: Option<&str>) -> Pod {
        let spec = json!({"nodeName": node, "containers": []});
        let pod = json!({"metadata": {"name": "a", "namespace": "ns", "uid": uid}, "spec": spec});
        serde_json::from_value(pod).expect("a Pod")
    }

    #[test]
    fn what_was_bound_is_remembered_until_the_store_shows_it() {
        let (store, mut writer) = reflector::store::<Pod>();
        let is_bound = |pod: &Arc<Pod>| !waits(pod);
        let mut assumed = vec![Arc::new(pod("1", Some("node")))];

        writer.apply_watcher_event(&Event::Apply(pod("1", None)));
        assert!(with_assumed(&store, &mut assumed).iter().any(is_bound));
        assert_eq!(assumed.len(), 1);

        writer.apply_watcher_event(&Event::Apply(pod("1", Some("node"))));
        assert_eq!(with_assumed(&store, &mut assumed).len(), 1);
        assert!(assumed.is_empty());

        // A different pod with that name is not bound.
        assumed.push(Arc::new(pod("1", Some("node"))));
        writer.apply_watcher_event(&Event::Apply(pod("2", None)));
        assert!(!with_assumed(&store, &mut assumed).iter().any(is_bound));
    }

    #[test]
    fn the_summary_reads_as_kube_schedulers() {
        let text = no_node(&[Some("node(s) didn't match Pod's node affinity/selector".into())]);
        assert_eq!(
            text,
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. \
             preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        );
    }
}
