//! What is done to a running release: scaling and restarting. Each proves that it took place; if it did not, the trial
//! is invalid, whatever holds afterwards.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use manifests::{Mode, Values};

use super::context::Context;
use super::departures::{Departure, Departures};
use super::error::TrialError;
use crate::checks::{Violation, drain, forecast, forgotten, last_copy, step_back};
use crate::release::{Bundle, HookOutput};
use crate::valkey::ClusterObservation;

impl Context {
    /// Upgrades to values with another number of pods, and returns when every promise holds again. What departs must be
    /// empty when it goes if the values drain it, must be forgotten afterwards, and its claims must stay. What is added
    /// must be such that it could be taken away again.
    pub async fn scale(&mut self, values: Values) -> Result<Vec<HookOutput>, TrialError> {
        let bundle = self.render_upgrade(&values).await?;
        self.scale_bundle(values, bundle).await
    }

    /// Scales with manifests that differ from what `values` render: how the tests of the checks break an operation.
    pub async fn scale_bundle(
        &mut self,
        values: Values,
        bundle: Bundle,
    ) -> Result<Vec<HookOutput>, TrialError> {
        let before = self.observe().await?;
        let claims = self.claims().await?;
        let departing = departing(&before, &values);
        self.tell_load_of_pods(&before, &values).await;
        let departures = Departures::watch(self).await?;
        let drained = values.cluster.drain_before_scale_down;
        let forecast = forecast::losses(&before, &departing);
        if !drained && !forecast.is_empty() {
            // What is lost gets other owners, under whatever epochs they have.
            self.past.start_anew();
        }
        let outputs = Box::pin(self.upgrade_bundle(values, bundle)).await?;
        let of_pod = |pod: &String| Some((node_id(&before, pod)?.to_owned(), pod.clone()));
        self.past.removed(departing.iter().filter_map(of_pod));
        let after = Box::pin(self.healthy()).await?;
        let gone = departures.finish();
        self.took_place(&before, &departing, &gone)?;
        let mut violations = self.missing_claims(&claims).await?;
        if drained {
            let seen = gone
                .iter()
                .map(|gone| drain::check(&before, &gone.seen, &departing));
            violations.extend(seen.flatten());
        }
        violations.extend(step_back::check(&before, &after));
        violations.dedup();
        TrialError::unless_kept(violations)?;
        self.record_kept([step_back::NAME, forgotten::NAME]);
        if drained && !gone.is_empty() {
            self.record_kept([drain::NAME]);
        }
        Ok(outputs)
    }

    /// Writers look for their slots on every pod that there is before, during and after the step.
    async fn tell_load_of_pods(&self, before: &ClusterObservation, values: &Values) {
        let Some(load) = &self.load else { return };
        let most = pods_of(values).max(before.expected.pods);
        let naming = self.naming();
        load.set_pods(
            (0..most)
                .map(|ordinal| naming.pod_name(values, ordinal))
                .collect(),
        )
        .await;
    }

    /// `kubectl rollout restart`: every pod is replaced, one at a time, and no primary goes while none of its replicas is
    /// in sync. Returns when every promise holds again.
    pub async fn rolling_restart(&mut self) -> Result<ClusterObservation, TrialError> {
        let before = self.observe().await?;
        let departures = Departures::watch(self).await?;
        let step = self.steps.begin("rolling restart");
        let restarted = restart_all(&self.client(), self.namespace()).await;
        self.steps.end(step, restarted.is_ok());
        restarted?;
        let after = Box::pin(self.healthy()).await?;
        let gone = departures.finish();
        let everyone: Vec<String> = before.pods.iter().map(|pod| pod.name.clone()).collect();
        self.took_place(&before, &everyone, &gone)?;
        let alone = gone
            .iter()
            .flat_map(|gone| last_copy::check(&before, &gone.pod, &gone.seen, gone.took));
        TrialError::unless_kept(alone.collect())?;
        self.record_kept([last_copy::NAME]);
        Ok(after)
    }

    /// The names of the claims in the trial's namespace.
    pub async fn claims(&self) -> Result<BTreeSet<String>, TrialError> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client(), self.namespace());
        let listed = claims.list(&ListParams::default()).await;
        let listed = listed.map_err(|source| TrialError::api("list claims", source))?;
        Ok(listed.iter().map(ResourceExt::name_any).collect())
    }

    /// Every pod of `departing` was really taken away.
    fn took_place(
        &self,
        before: &ClusterObservation,
        departing: &[String],
        gone: &[Departure],
    ) -> Result<(), TrialError> {
        let uids: BTreeMap<&str, &str> = before
            .pods
            .iter()
            .map(|pod| (pod.name.as_str(), pod.uid.as_str()))
            .collect();
        let left = |pod: &&String| {
            !gone
                .iter()
                .any(|gone| gone.pod == **pod && uids.get(pod.as_str()) == Some(&gone.uid.as_str()))
        };
        let still: Vec<&String> = departing.iter().filter(left).collect();
        if still.is_empty() {
            return Ok(());
        }
        Err(TrialError::Invalid(format!("{still:?} were not taken away")))
    }

    /// Claims are left behind by everything but the user.
    async fn missing_claims(&self, before: &BTreeSet<String>) -> Result<Vec<Violation>, TrialError> {
        let now = self.claims().await?;
        let missing = before.difference(&now);
        Ok(missing
            .map(|claim| {
                Violation::new(
                    "persistence",
                    format!("claim {claim}"),
                    "to be left behind",
                    "it is gone",
                )
            })
            .collect())
    }
}

/// The pods that an upgrade to `values` removes.
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

/// Every pod of `before` is another one in `after`: what was to restart them all did.
pub fn all_replaced(before: &ClusterObservation, after: &ClusterObservation) -> Result<(), TrialError> {
    let uids: BTreeSet<&str> = after.pods.iter().map(|pod| pod.uid.as_str()).collect();
    let same = before.pods.iter().filter(|pod| uids.contains(pod.uid.as_str()));
    let same: Vec<&str> = same.map(|pod| pod.name.as_str()).collect();
    if same.is_empty() {
        return Ok(());
    }
    Err(TrialError::Invalid(format!(
        "{} are the same pods as before",
        same.join(", ")
    )))
}

/// The ID of the node that a pod is.
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
