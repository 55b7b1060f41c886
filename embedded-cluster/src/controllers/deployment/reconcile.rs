//! Reconciliation of a Deployment: reads it and its ReplicaSets, decides, acts, and writes the
//! status.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use serde_json::json;

use super::plan::{Set, Strategy, plan, replicas};
use super::status::status;
use crate::controllers::drive::Reconciled;
use crate::controllers::error::{ControllerError, During};
use crate::controllers::events::EventRecorder;
use crate::controllers::hub::Hub;
use crate::controllers::owners::{controller_reference, is_controlled_by};
use crate::controllers::replica_set::{wanted, with_nulls};
use crate::controllers::stateful_set::hash;

const COMPONENT: &str = "deployment-controller";
/// The label that distinguishes the pods of one template from those of another.
const HASH_LABEL: &str = "pod-template-hash";
/// The annotation that orders the ReplicaSets of a Deployment.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// The API server's default for `revisionHistoryLimit`.
const DEFAULT_HISTORY: i32 = 10;

/// Reconciles one Deployment, as far as possible now.
pub(super) async fn reconcile(known: Arc<Deployment>, hub: Arc<Hub>) -> Reconciled {
    let (namespace, name) = (known.namespace().unwrap_or_default(), known.name_any());
    let read = hub.api::<Deployment>(&namespace).get_opt(&name).await;
    let read = read.during(|| format!("read Deployment {namespace}/{name}"))?;
    let Some(deployment) = read.filter(|found| found.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let events = hub.events(COMPONENT);
    Work {
        hub,
        events,
        namespace,
        name,
        deployment,
    }
    .run()
    .await
}

struct Work {
    hub: Arc<Hub>,
    events: EventRecorder,
    namespace: String,
    name: String,
    deployment: Deployment,
}

impl Work {
    async fn run(&self) -> Reconciled {
        let mut old = self.sets().await?;
        let hash = self.hash()?;
        let index = old
            .iter()
            .position(|set| set.labels().get(HASH_LABEL) == Some(&hash));
        let paused = self.deployment.spec.paused == Some(true);
        let new = match index {
            Some(index) => old.remove(index),
            None if paused => return Ok(Action::await_change()),
            None => self.create(&hash, &old).await?,
        };
        let next = old.iter().map(revision).max().unwrap_or(0).saturating_add(1);
        if revision(&new) < next && !paused {
            self.annotate(&new, next).await?;
        }
        if !paused {
            let sets: Vec<Set> = old.iter().map(Set::of).collect();
            let strategy = Strategy::of(&self.deployment);
            let (up, down) = plan(replicas(&self.deployment), strategy, Set::of(&new), &sets);
            for (set, wanted) in std::iter::once((&new, up)).chain(old.iter().zip(down)) {
                self.scale(set, wanted).await?;
            }
        }
        let all: Vec<&ReplicaSet> = std::iter::once(&new).chain(&old).collect();
        let (wanted, again) = status(&self.deployment, &new, &all, Timestamp::now());
        if self.deployment.status.as_ref() != Some(&wanted) {
            let fields = [
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
            ];
            let patch = Patch::Merge(json!({ "status": with_nulls(json!(wanted), &fields) }));
            let api = self.hub.api::<Deployment>(&self.namespace);
            let written = api
                .patch_status(&self.name, &PatchParams::default(), &patch)
                .await;
            written
                .unless_gone()
                .during(|| format!("write the status of Deployment {}", self.name))?;
        }
        self.truncate(&old).await?;
        Ok(again.map_or_else(Action::await_change, Action::requeue))
    }

    /// Returns the Deployment's sets, oldest first.
    async fn sets(&self) -> Result<Vec<ReplicaSet>, ControllerError> {
        let listed = self
            .hub
            .api::<ReplicaSet>(&self.namespace)
            .list(&ListParams::default())
            .await;
        let listed = listed.during(|| format!("list ReplicaSets of Deployment {}", self.name))?;
        let own = |set: &ReplicaSet| is_controlled_by(&set.metadata, &self.deployment);
        let mut sets: Vec<_> = listed.items.into_iter().filter(own).collect();
        sets.sort_by_key(|set| (revision(set), set.name_any()));
        Ok(sets)
    }

    fn hash(&self) -> Result<String, ControllerError> {
        let template = &self.deployment.spec.template;
        let template = serde_json::to_value(template)
            .map_err(|source| ControllerError::malformed(format!("the template of {}", self.name), source))?;
        Ok(hash(&template, 0))
    }

    async fn create(&self, hash: &str, old: &[ReplicaSet]) -> Result<ReplicaSet, ControllerError> {
        let spec = self.deployment.spec.clone();
        let (mut selector, mut template) = (spec.selector, spec.template);
        let meta = template.metadata.get_or_insert_default();
        meta.labels
            .get_or_insert_default()
            .insert(HASH_LABEL.to_owned(), hash.to_owned());
        selector
            .match_labels
            .get_or_insert_default()
            .insert(HASH_LABEL.to_owned(), hash.to_owned());
        let next = old.iter().map(revision).max().unwrap_or(0).saturating_add(1);
        let mut annotations = self.deployment.annotations().clone();
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        annotations.insert(REVISION.to_owned(), next.to_string());
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", self.name)),
                namespace: Some(self.namespace.clone()),
                labels: meta.labels.clone(),
                annotations: Some(annotations),
                owner_references: Some(vec![controller_reference(&self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(0),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            },
            status: None,
        };
        let created = self
            .hub
            .api(&self.namespace)
            .create(&PostParams::default(), &set)
            .await;
        created.during(|| format!("create ReplicaSet {}", set.name_any()))
    }

    async fn annotate(&self, set: &ReplicaSet, revision: i64) -> Result<(), ControllerError> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {REVISION: revision.to_string()}}}));
        self.patch(set, &patch).await
    }

    async fn scale(&self, set: &ReplicaSet, to: i32) -> Result<(), ControllerError> {
        let from = wanted(set);
        if from == to {
            return Ok(());
        }
        self.patch(set, &Patch::Merge(json!({"spec": {"replicas": to}})))
            .await?;
        let direction = if to > from { "up" } else { "down" };
        let message = format!(
            "Scaled {direction} replica set {} from {from} to {to}",
            set.name_any()
        );
        self.events
            .normal(&self.deployment, "ScalingReplicaSet", &message)
            .await;
        Ok(())
    }

    async fn patch(&self, set: &ReplicaSet, patch: &Patch<serde_json::Value>) -> Result<(), ControllerError> {
        let name = set.name_any();
        let api = self.hub.api::<ReplicaSet>(&self.namespace);
        let patched = api.patch(&name, &PatchParams::default(), patch).await;
        patched
            .unless_gone()
            .during(|| format!("patch ReplicaSet {name}"))
            .map(drop)
    }

    /// Deletes the oldest sets without pods that exceed the limit.
    async fn truncate(&self, old: &[ReplicaSet]) -> Result<(), ControllerError> {
        let limit = self
            .deployment
            .spec
            .revision_history_limit
            .unwrap_or(DEFAULT_HISTORY);
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let api = self.hub.api::<ReplicaSet>(&self.namespace);
        let empty = |set: &&ReplicaSet| wanted(set) == 0 && Set::of(set).pods == 0;
        for set in old.iter().filter(empty).take(surplus) {
            let name = set.name_any();
            let deleted = api.delete(&name, &DeleteParams::background()).await;
            deleted
                .unless_gone()
                .during(|| format!("delete ReplicaSet {name}"))?;
        }
        Ok(())
    }
}

fn revision(set: &ReplicaSet) -> i64 {
    set.annotations()
        .get(REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}
