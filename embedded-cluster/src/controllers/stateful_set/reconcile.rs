//! Reconciliation of a StatefulSet: reads it and its pods, decides, acts, and writes the status.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use serde_json::json;

use super::identity::{self, ordinal_of, ordinals};
use super::plan::{Situation, Step, Why, plan};
use super::revisions::{DEFAULT_HISTORY, History};
use super::status::{Revisions, status};
use crate::controllers::drive::Reconciled;
use crate::controllers::error::{ControllerError, During};
use crate::controllers::events::EventRecorder;
use crate::controllers::hub::Hub;
use crate::controllers::owners::{controller_of, controller_reference, is_controlled_by};
use crate::controllers::pods;

const COMPONENT: &str = "statefulset-controller";

/// Number of steps in the first batch. Kubernetes starts with 1; the difference only affects speed.
const FIRST_BATCH: usize = 16;

/// Reconciles one StatefulSet, as far as possible now.
pub(crate) async fn reconcile(known: Arc<StatefulSet>, hub: Arc<Hub>) -> Reconciled {
    if let Some(rest) = at_rest(&known, &hub) {
        return Ok(rest);
    }
    let namespace = known.namespace().unwrap_or_default();
    let name = known.name_any();
    let read = hub.api::<StatefulSet>(&namespace).get(&name).await;
    let Some(set) = read
        .unless_gone()
        .during(|| format!("read StatefulSet {namespace}/{name}"))?
    else {
        return Ok(Action::await_change());
    };
    let work = Work {
        events: hub.events(COMPONENT),
        namespace,
        set,
        hub,
    };
    work.run().await
}

/// Returns an action if the set needs no work. Most changes of a pod need none. This check reads
/// the shared stores and makes no request. A change that the stores do not show yet triggers
/// another reconciliation, and all actions read the objects again.
fn at_rest(set: &StatefulSet, hub: &Hub) -> Option<Action> {
    let known = set.status.as_ref()?;
    let is_seen = set.metadata.generation.is_some() && known.observed_generation == set.metadata.generation;
    if !is_seen || set.metadata.deletion_timestamp.is_some() || claims_follow(set) != (false, false) {
        return None;
    }
    let revisions = Revisions {
        current: known.current_revision.clone()?,
        update: known.update_revision.clone()?,
        collision_count: known.collision_count.unwrap_or(0),
    };
    let kept = hub.controller_revisions.state_filter(|revision| {
        revision.metadata.namespace == set.metadata.namespace && is_controlled_by(&revision.metadata, set)
    });
    let is_kept = |name: &str| kept.iter().any(|revision| revision.name_any() == name);
    let limit = set.spec.revision_history_limit.unwrap_or(DEFAULT_HISTORY);
    if !is_kept(&revisions.current)
        || !is_kept(&revisions.update)
        || kept.len() > usize::try_from(limit).ok()?
    {
        return None;
    }
    let selector = pods::selector("a StatefulSet", &set.spec.selector).ok()?;
    let pods = hub.pods.state_filter(|pod| {
        pod.metadata.namespace == set.metadata.namespace
            && pods::matches(&selector, pod)
            && (is_controlled_by(&pod.metadata, set) || controller_of(&pod.metadata).is_none())
    });
    if pods.iter().any(|pod| controller_of(&pod.metadata).is_none()) {
        return None;
    }
    let now = Timestamp::now();
    let decided = plan(&Situation {
        set,
        pods: &pods,
        current_revision: &revisions.current,
        update_revision: &revisions.update,
        now,
    });
    if !decided.steps.is_empty() || status(set, &pods, &revisions, now) != *known {
        return None;
    }
    Some(decided.recheck.map_or_else(Action::await_change, Action::requeue))
}

/// Returns true if the set's claims are deleted with the set, and with the pods that it gives up.
fn claims_follow(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.persistent_volume_claim_retention_policy.clone();
    let policy = policy.unwrap_or_default();
    (
        policy.when_deleted.as_deref() == Some("Delete"),
        policy.when_scaled.as_deref() == Some("Delete"),
    )
}

struct Work {
    hub: Arc<Hub>,
    events: EventRecorder,
    namespace: String,
    set: StatefulSet,
}

impl Work {
    async fn run(self) -> Reconciled {
        let pods = self.owned_pods().await?;
        let history = History::observe(&self.hub, &self.set).await?;
        let now = Timestamp::now();
        let mut recheck = None;
        let mut acted = Ok(());
        if self.set.metadata.deletion_timestamp.is_none() {
            self.keep_claim_owners(&pods).await?;
            let decided = plan(&Situation {
                set: &self.set,
                pods: &pods,
                current_revision: &history.revisions.current,
                update_revision: &history.revisions.update,
                now,
            });
            recheck = decided.recheck;
            acted = self.act_in_batches(&decided.steps, &history).await;
        }
        // The next reconciliation, which these actions trigger, sees their result.
        self.write_status(&pods, &history, now).await?;
        history.truncate(&self.hub, &self.set, &pods).await?;
        acted.map(|()| recheck.map_or_else(Action::await_change, Action::requeue))
    }

    /// Returns the set's pods. First adopts pods without a controller that match its selector and
    /// name.
    async fn owned_pods(&self) -> Result<Vec<Arc<Pod>>, ControllerError> {
        let name = self.set.name_any();
        let selector = pods::selector(&format!("StatefulSet {name}"), &self.set.spec.selector)?;
        let pods_api = self.hub.api::<Pod>(&self.namespace);
        let listed = pods_api.list(&ListParams::default().labels_from(&selector)).await;
        let listed = listed.during(|| format!("list pods of StatefulSet {name}"))?;
        let mut owned = Vec::new();
        for pod in listed.items {
            if is_controlled_by(&pod.metadata, &self.set) {
                owned.push(Arc::new(pod));
            } else if controller_of(&pod.metadata).is_none()
                && ordinal_of(&self.set, &pod.name_any()).is_some()
                && self.set.metadata.deletion_timestamp.is_none()
                && !pods::is_terminating(&pod)
            {
                owned.push(Arc::new(self.adopt(&pod).await?));
            }
        }
        Ok(owned)
    }

    async fn adopt(&self, pod: &Pod) -> Result<Pod, ControllerError> {
        let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
        owners.push(controller_reference(&self.set));
        let patch =
            Patch::Merge(json!({ "metadata": { "uid": pod.metadata.uid, "ownerReferences": owners } }));
        let api = self.hub.api::<Pod>(&self.namespace);
        let patched = api.patch(&pod.name_any(), &PatchParams::default(), &patch).await;
        patched.during(|| format!("adopt pod {}", pod.name_any()))
    }

    /// Executes the steps in ever larger batches and stops after a batch with a failure. A refusal
    /// (by a quota, for example) need not be repeated five hundred times. This is the slow start of
    /// kube-controller-manager.
    async fn act_in_batches(&self, steps: &[Step], history: &History) -> Result<(), ControllerError> {
        let (mut rest, mut size) = (steps, FIRST_BATCH);
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            let acts = batch.iter().map(|step| self.act(step, history));
            let done: Vec<_> = futures::future::join_all(acts).await;
            done.into_iter().collect::<Result<(), _>>()?;
            (rest, size) = (later, size * 2);
        }
        Ok(())
    }

    async fn act(&self, step: &Step, history: &History) -> Result<(), ControllerError> {
        match step {
            Step::Create { ordinal, revision } => {
                self.create_claims(*ordinal).await?;
                self.create_pod(identity::pod(
                    &self.set,
                    *ordinal,
                    history.template(revision)?,
                    revision,
                ))
                .await
            }
            Step::Delete { pod, why } => self.delete_pod(pod, *why).await,
        }
    }

    async fn create_claims(&self, ordinal: i64) -> Result<(), ControllerError> {
        let api = self.hub.api::<PersistentVolumeClaim>(&self.namespace);
        let set = self.set.name_any();
        for claim in identity::claims(&self.set, ordinal) {
            let name = claim.object.name_any();
            let created = api.create(&PostParams::default(), &claim.object).await;
            if created
                .unless_there()
                .during(|| format!("create claim {name}"))?
                .is_some()
            {
                let message = format!("create Claim {name} Pod {set}-{ordinal} in StatefulSet {set} success");
                self.events.normal(&self.set, "SuccessfulCreate", &message).await;
            }
        }
        Ok(())
    }

    async fn create_pod(&self, pod: Pod) -> Result<(), ControllerError> {
        let (name, set) = (pod.name_any(), self.set.name_any());
        let created = self
            .hub
            .api::<Pod>(&self.namespace)
            .create(&PostParams::default(), &pod)
            .await;
        match created.unless_there() {
            Ok(Some(_)) => {
                let message = format!("create Pod {name} in StatefulSet {set} successful");
                self.events.normal(&self.set, "SuccessfulCreate", &message).await;
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                let message = format!("create Pod {name} in StatefulSet {set} failed error: {error}");
                self.events.warning(&self.set, "FailedCreate", &message).await;
                Err(error).during(|| format!("create pod {name}"))
            }
        }
    }

    async fn delete_pod(&self, name: &str, why: Why) -> Result<(), ControllerError> {
        let set = self.set.name_any();
        let recreating = |state: &str| {
            format!(
                "StatefulSet {}/{set} is recreating {state} Pod {name}",
                self.namespace
            )
        };
        match why {
            Why::Failed => {
                self.events
                    .warning(&self.set, "RecreatingFailedPod", &recreating("failed"))
                    .await;
            }
            Why::Succeeded => {
                self.events
                    .normal(&self.set, "RecreatingTerminatedPod", &recreating("terminated"))
                    .await;
            }
            Why::ScaleDown | Why::Update => {}
        }
        let deleted = self
            .hub
            .api::<Pod>(&self.namespace)
            .delete(name, &DeleteParams::default())
            .await;
        if deleted
            .unless_gone()
            .during(|| format!("delete pod {name}"))?
            .is_some()
        {
            let message = format!("delete Pod {name} in StatefulSet {set} successful");
            self.events.normal(&self.set, "SuccessfulDelete", &message).await;
        }
        Ok(())
    }

    /// Sets the claims' owners according to `persistentVolumeClaimRetentionPolicy`. A claim to be
    /// deleted with its set or condemned pod gets that object as owner. Garbage collection then
    /// deletes the claim. Does nothing with the default, Retain.
    async fn keep_claim_owners(&self, pods: &[Arc<Pod>]) -> Result<(), ControllerError> {
        let (with_set, with_pod) = claims_follow(&self.set);
        if !with_set && !with_pod {
            return Ok(());
        }
        let api = self.hub.api::<PersistentVolumeClaim>(&self.namespace);
        let wanted = ordinals(&self.set);
        for pod in pods {
            let Some(ordinal) = ordinal_of(&self.set, &pod.name_any()) else {
                continue;
            };
            let owner = match wanted.contains(&ordinal) {
                false if with_pod => {
                    let reference = controller_reference(pod.as_ref());
                    vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
                        controller: None,
                        block_owner_deletion: None,
                        ..reference
                    }]
                }
                _ if with_set => vec![controller_reference(&self.set)],
                _ => Vec::new(),
            };
            for claim in identity::claims(&self.set, ordinal) {
                let name = claim.object.name_any();
                let patch = Patch::Merge(json!({ "metadata": { "ownerReferences": owner } }));
                let patched = api.patch(&name, &PatchParams::default(), &patch).await;
                patched
                    .unless_gone()
                    .during(|| format!("set the owner of claim {name}"))?;
            }
        }
        Ok(())
    }

    async fn write_status(
        &self,
        pods: &[Arc<Pod>],
        history: &History,
        now: Timestamp,
    ) -> Result<(), ControllerError> {
        let wanted = status(&self.set, pods, &history.revisions, now);
        if self.set.status.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let name = self.set.name_any();
        let api = self.hub.api::<StatefulSet>(&self.namespace);
        let mut status = json!(wanted);
        // A merge patch keeps the fields that it does not name. A count that returned to zero must
        // be named to be removed.
        for field in ["readyReplicas", "currentReplicas", "updatedReplicas"] {
            if status.get(field).is_none() {
                status[field] = serde_json::Value::Null;
            }
        }
        let patch = Patch::Merge(json!({ "status": status }));
        let written = api.patch_status(&name, &PatchParams::default(), &patch).await;
        written
            .unless_gone()
            .during(|| format!("write the status of StatefulSet {name}"))
            .map(drop)
    }
}
