//! Operations on a running release: scaling and restarting. Each proves that it took place. Without
//! that proof the trial is invalid, whatever holds afterwards.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use manifests::{Mode, Values};

use super::context::Context;
use super::error::TrialError;
use super::pod_deletions::{DeletedPods, DeletionWatch, GRACE};
use crate::checks::{Violation, drain, forecast, forgotten, last_copy, step_back};
use crate::release::{Bundle, HookOutput};
use crate::valkey::ClusterObservation;

impl Context {
    /// Upgrades to values with another number of pods, and returns once every promise holds again.
    /// - A departing node must be empty when it leaves, if the subject drains it.
    /// - A departed node must be forgotten, and its claims must stay.
    /// - A later scale down must be able to remove the added nodes.
    pub async fn scale(&mut self, values: Values) -> Result<Vec<HookOutput>, TrialError> {
        let values = self.with_password(values);
        let bundle = self.render_upgrade(&values).await?;
        self.scale_bundle(values, bundle).await
    }

    /// Scales with manifests that differ from the rendering of `values`. Tests of the checks break
    /// an operation this way.
    pub async fn scale_bundle(
        &mut self,
        values: Values,
        bundle: Bundle,
    ) -> Result<Vec<HookOutput>, TrialError> {
        let before = self.observe().await?;
        let claims = self.claims().await?;
        let departing = departing(&before, &values);
        self.tell_load_of_pods(&before, &values).await;
        let deletions = DeletionWatch::watch(self).await?;
        let drained = self.environment().subject.drains(&values);
        let forecast = forecast::losses(&before, &departing);
        if !drained && !forecast.is_empty() {
            // The lost slots get other owners, with arbitrary epochs.
            self.deployment.past.forget_observations();
        }
        let outputs = Box::pin(self.upgrade_bundle(values, bundle)).await?;
        let of_pod = |pod: &String| Some((node_id(&before, pod)?.to_owned(), pod.clone()));
        self.deployment.past.removed(departing.iter().filter_map(of_pod));
        let after = Box::pin(self.healthy()).await?;
        let gone = deletions.finish();
        self.took_place(&before, &departing, &gone)?;
        let mut violations = self.missing_claims(&claims).await?;
        if drained {
            let seen = gone
                .seen
                .iter()
                .map(|gone| drain::check(&before, &gone.seen, &departing));
            violations.extend(seen.flatten());
        }
        violations.extend(step_back::check(&before, &after));
        violations.extend(gone.without_grace());
        violations.dedup();
        self.recorder.note_broken(violations);
        self.recorder.kept([step_back::NAME, forgotten::NAME]);
        if drained && !gone.seen.is_empty() {
            self.recorder.kept([drain::NAME]);
        }
        Ok(outputs)
    }

    /// Makes the writers look for their slots on every pod that exists before, during or after the
    /// step.
    async fn tell_load_of_pods(&self, before: &ClusterObservation, values: &Values) {
        let Some(load) = &self.data.load else { return };
        let most = pods_of(values).max(before.expected.pods);
        let (naming, installed) = (self.naming(), self.deployment.values().unwrap_or(values));
        load.set_pods(
            (0..most)
                .map(|ordinal| naming.pod_name(installed, ordinal))
                .collect(),
        )
        .await;
    }

    /// Runs `kubectl rollout restart`: every pod is replaced, one at a time. No primary may leave
    /// while none of its replicas is in sync. Returns once every promise holds again.
    pub async fn rolling_restart(&mut self) -> Result<ClusterObservation, TrialError> {
        let before = self.observe().await?;
        let deletions = DeletionWatch::watch(self).await?;
        let restarted = self
            .recorder
            .steps
            .clone()
            .run("rolling restart", restart_all(&self.client(), self.namespace()))
            .await;
        restarted?;
        let after = Box::pin(self.healthy()).await?;
        let gone = deletions.finish();
        let everyone: Vec<String> = before.pods.iter().map(|pod| pod.name.clone()).collect();
        self.took_place(&before, &everyone, &gone)?;
        let alone = gone
            .seen
            .iter()
            .flat_map(|gone| last_copy::check(&before, &gone.pod, &gone.seen, gone.took));
        self.recorder
            .note_broken(alone.chain(gone.without_grace()).collect());
        self.recorder.kept([last_copy::NAME, GRACE]);
        Ok(after)
    }

    /// Returns the names of the claims in the trial's namespace.
    pub async fn claims(&self) -> Result<BTreeSet<String>, TrialError> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client(), self.namespace());
        let listed = claims.list(&ListParams::default()).await;
        let listed = listed.map_err(|source| TrialError::api("list claims", source))?;
        Ok(listed.iter().map(ResourceExt::name_any).collect())
    }

    /// Fails unless every pod of `departing` was deleted.
    fn took_place(
        &self,
        before: &ClusterObservation,
        departing: &[String],
        gone: &DeletedPods,
    ) -> Result<(), TrialError> {
        let uids: BTreeMap<&str, &str> = before
            .pods
            .iter()
            .map(|pod| (pod.name.as_str(), pod.uid.as_str()))
            .collect();
        let left = |pod: &&String| !uids.get(pod.as_str()).is_some_and(|uid| gone.has(pod, uid));
        let still: Vec<&String> = departing.iter().filter(left).collect();
        if still.is_empty() {
            return Ok(());
        }
        Err(TrialError::Invalid(format!("pods {still:?} were not removed")))
    }

    /// Returns a violation for each missing claim. Only the user may delete a claim.
    async fn missing_claims(&self, before: &BTreeSet<String>) -> Result<Vec<Violation>, TrialError> {
        let now = self.claims().await?;
        let missing = before.difference(&now);
        Ok(missing
            .map(|claim| {
                Violation::new(
                    "persistence",
                    format!("claim {claim}"),
                    "to be kept",
                    "it is gone",
                )
            })
            .collect())
    }
}

/// Returns the pods that an upgrade to `values` removes.
pub fn departing(now: &ClusterObservation, values: &Values) -> Vec<String> {
    let stay = pods_of(values);
    let leaves = now
        .pods
        .iter()
        .filter(|pod| pod.ordinal.is_some_and(|ordinal| ordinal >= stay));
    leaves.map(|pod| pod.name.clone()).collect()
}

fn pods_of(values: &Values) -> u32 {
    match values.mode {
        Mode::Standalone => values.standalone.replicas,
        Mode::Cluster => values.cluster.replicas,
    }
}

/// Fails unless every pod of `before` has been replaced in `after`.
pub fn all_replaced(before: &ClusterObservation, after: &ClusterObservation) -> Result<(), TrialError> {
    let uids: BTreeSet<&str> = after.pods.iter().map(|pod| pod.uid.as_str()).collect();
    let same = before.pods.iter().filter(|pod| uids.contains(pod.uid.as_str()));
    let same: Vec<&str> = same.map(|pod| pod.name.as_str()).collect();
    if same.is_empty() {
        return Ok(());
    }
    Err(TrialError::Invalid(format!(
        "pods {} were not replaced",
        same.join(", ")
    )))
}

/// Returns the node ID of a pod.
pub fn node_id<'a>(seen: &'a ClusterObservation, pod: &str) -> Option<&'a str> {
    let view = seen.views.get(pod)?.as_ref().ok()?;
    Some(view.nodes.as_ref()?.myself()?.id.as_str())
}

async fn restart_all(client: &Client, namespace: &str) -> Result<(), TrialError> {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let listed = sets.list(&ListParams::default()).await;
    for set in listed.map_err(|source| TrialError::api("list StatefulSets", source))? {
        let name = set.name_any();
        let restarted = sets.restart(&name).await;
        restarted.map_err(|source| TrialError::api(format!("restart StatefulSet {name}"), source))?;
    }
    Ok(())
}
