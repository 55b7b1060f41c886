//! Execution of the graph's tasks, after the API server has confirmed each of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::graph::{Graph, Node, Task};
use crate::controllers::error::{ControllerError, During};
use crate::controllers::hub::{Change, Hub, Object};

/// The delay before a failed task is retried.
const RETRY: Duration = Duration::from_millis(500);

/// Runs the collector.
pub(crate) async fn run(hub: Arc<Hub>) {
    let mut changes = hub.subscribe();
    hub.wait_until_ready().await;
    let mut collector = Collector {
        graph: Graph::default(),
        failed: BTreeSet::new(),
        hub,
    };
    collector.look_at_everything().await;
    loop {
        let retry = tokio::time::timeout(RETRY, changes.recv());
        let change = if collector.failed.is_empty() {
            // An empty retry queue: only a change can bring new work.
            drop(retry);
            changes.recv().await
        } else if let Ok(change) = retry.await {
            change
        } else {
            let again: Vec<_> = std::mem::take(&mut collector.failed).into_iter().collect();
            collector.carry_out(again).await;
            continue;
        };
        match change {
            Ok(change) => collector.take_in(&change).await,
            Err(RecvError::Lagged(_)) => collector.look_at_everything().await,
            Err(RecvError::Closed) => return,
        }
    }
}

struct Collector {
    hub: Arc<Hub>,
    graph: Graph,
    failed: BTreeSet<Task>,
}

impl Collector {
    async fn look_at_everything(&mut self) {
        self.graph = Graph::default();
        let everything = self.hub.everything();
        // Two rounds: in the first one owners may come after their dependents and look unknown.
        for object in &everything {
            self.graph.observe(object.meta(), object.resource(), false);
        }
        for object in everything {
            self.take_in(&Change {
                object,
                deleted: false,
            })
            .await;
        }
    }

    async fn take_in(&mut self, change: &Change) {
        if let (Object::Node(node), true) = (&change.object, change.deleted) {
            self.delete_pods_of(&node.name_any()).await;
        }
        let tasks = self
            .graph
            .observe(change.object.meta(), change.object.resource(), change.deleted);
        self.carry_out(tasks).await;
    }

    async fn carry_out(&mut self, tasks: Vec<Task>) {
        for task in tasks {
            if let Err(error) = self.perform(&task).await {
                if !error.is_conflict() {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(cause, "garbage collection failed to {error}");
                }
                self.failed.insert(task);
            }
        }
    }

    async fn perform(&self, task: &Task) -> Result<(), ControllerError> {
        match task {
            Task::Collect(uid) => self.collect(uid).await,
            Task::DeleteForOwner(uid) => match self.graph.get(uid) {
                Some(node) => self.delete(node, uid, DeleteParams::foreground()).await,
                None => Ok(()),
            },
            Task::Disown { uid, owner } => self.disown(uid, owner).await,
            Task::Unblock { uid, finalizer } => self.unblock(uid, finalizer).await,
        }
    }

    /// Deletes an object when none of its owners exists any more. When some owners exist, removes
    /// the others from the object's references.
    async fn collect(&self, uid: &str) -> Result<(), ControllerError> {
        let Some(node) = self.graph.get(uid).filter(|node| !node.terminating) else {
            return Ok(());
        };
        let mut gone = Vec::new();
        for owner in &node.owners {
            if !self.exists(owner, node.namespace.as_deref()).await? {
                gone.push(owner.uid.clone());
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        if gone.len() == node.owners.len() {
            return self.delete(node, uid, DeleteParams::background()).await;
        }
        for owner in gone {
            self.disown(uid, &owner).await?;
        }
        Ok(())
    }

    /// Returns true if this owner exists. A successor with its name does not count. An owner of a
    /// kind unknown to the API server counts as undecided, and its dependents are kept.
    async fn exists(&self, owner: &OwnerReference, namespace: Option<&str>) -> Result<bool, ControllerError> {
        if self.graph.get(&owner.uid).is_some() {
            return Ok(true);
        }
        let (group, version) = owner
            .api_version
            .rsplit_once('/')
            .unwrap_or(("", &owner.api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &owner.kind));
        let cluster_wide =
            ["Namespace", "Node", "PersistentVolume", "StorageClass"].contains(&owner.kind.as_str());
        let found = self
            .api(&resource, namespace.filter(|_| !cluster_wide))
            .get_metadata_opt(&owner.name)
            .await;
        let found = found.during(|| format!("read owner {} {}", owner.kind, owner.name))?;
        Ok(found.is_some_and(|found| found.uid().as_ref() == Some(&owner.uid)))
    }

    async fn delete(&self, node: &Node, uid: &str, how: DeleteParams) -> Result<(), ControllerError> {
        let this_one = Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        };
        let api = self.api(&node.resource, node.namespace.as_deref());
        let deleted = api.delete(&node.name, &how.preconditions(this_one)).await;
        deleted
            .unless_gone()
            .during(|| format!("delete {} {}", node.resource.kind, node.name))
            .map(drop)
    }

    async fn disown(&self, uid: &str, owner: &str) -> Result<(), ControllerError> {
        let Some(node) = self.graph.get(uid) else {
            return Ok(());
        };
        let rest: Vec<_> = node.owners.iter().filter(|found| found.uid != owner).collect();
        self.patch(
            node,
            json!({ "metadata": { "uid": uid, "ownerReferences": rest } }),
        )
        .await
    }

    async fn unblock(&self, uid: &str, finalizer: &str) -> Result<(), ControllerError> {
        let Some(node) = self.graph.get(uid) else {
            return Ok(());
        };
        let rest: Vec<_> = node
            .finalizers
            .iter()
            .filter(|found| *found != finalizer)
            .collect();
        self.patch(node, json!({ "metadata": { "uid": uid, "finalizers": rest } }))
            .await
    }

    async fn patch(&self, node: &Node, patch: serde_json::Value) -> Result<(), ControllerError> {
        let api = self.api(&node.resource, node.namespace.as_deref());
        let patched = api
            .patch(&node.name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched
            .unless_gone()
            .during(|| format!("patch {} {}", node.resource.kind, node.name))
            .map(drop)
    }

    /// Deletes the pods of a node that is gone, since they can never end by themselves.
    async fn delete_pods_of(&self, node: &str) {
        let of_node = |pod: &k8s_openapi::api::core::v1::Pod| {
            pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
        };
        for pod in self.hub.pods.state_filter(of_node) {
            let api = self
                .hub
                .api::<k8s_openapi::api::core::v1::Pod>(&pod.namespace().unwrap_or_default());
            let deleted = api
                .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                .await;
            if let Err(error) = deleted.unless_gone() {
                tracing::warn!(%error, pod = pod.name_any(), "failed to delete a pod of a node that is gone");
            }
        }
    }

    fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        let client = self.hub.client.clone();
        match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, resource),
            None => Api::all_with(client, resource),
        }
    }
}
