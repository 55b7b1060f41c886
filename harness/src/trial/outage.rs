//! Servers that are kept away. Their pods are deleted, and the replacements stay pending until the
//! scenario brings the servers back.
//!
//! Kubernetes normally replaces a pod within a second, too soon for the other servers to react. An
//! outage therefore changes two fields of the StatefulSet:
//! - The pod template asks for a node that does not exist.
//! - The update strategy is `OnDelete`, so running pods are left alone.
//!
//! Bringing the servers back restores both fields. If a trial ends before that, its namespace is
//! deleted anyway.

mod restore;
mod unready;

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::{Value, json};

pub(crate) use self::restore::is_kept_away;
use super::context::Context;
use super::error::TrialError;
use super::operations::node_id;
use crate::valkey::ClusterObservation;
use crate::valkey::cluster_nodes::Flag;
use crate::wait::{self, Expectation, Verdict, conditions};

/// Interval at which to observe the servers' reaction.
const INTERVAL: Duration = Duration::from_millis(200);

/// A node label that no node has. Only pods that are kept away ask for it.
pub(crate) const NOWHERE: &str = "valkey-e2e/kept-away";

/// Pods that are kept away, and the patch that restores their StatefulSet.
#[derive(Debug)]
#[must_use = "pods that are kept down must be restored"]
pub struct Outage {
    /// Names of the pods.
    pub pods: Vec<String>,
    /// The observation before the pods were deleted.
    pub before: ClusterObservation,
    set: String,
    restore: Value,
}

impl Outage {
    /// Returns the IDs of the absent nodes, as far as the other nodes knew them.
    fn nodes(&self) -> impl Iterator<Item = &str> {
        self.pods.iter().filter_map(|pod| node_id(&self.before, pod))
    }

    /// Returns true if `pod` is kept away.
    fn has(&self, pod: &str) -> bool {
        self.pods.iter().any(|away| away == pod)
    }
}

impl Context {
    /// Deletes server pods of one StatefulSet, all at once, and keeps them away.
    ///
    /// # Errors
    /// [`TrialError::Invalid`] if a pod is not deleted, or if its replacement runs.
    pub async fn keep_down(&mut self, pods: &[String]) -> Result<Outage, TrialError> {
        let before = self.observe().await?;
        self.recorder
            .steps
            .clone()
            .run(
                format!("keep {} down", pods.join(", ")),
                self.take_down(pods, before),
            )
            .await
    }

    /// Lets absent pods come back, and waits until they run.
    pub async fn restore_pods(&mut self, outage: Outage) -> Result<(), TrialError> {
        self.recorder
            .steps
            .clone()
            .run(
                format!("restore {}", outage.pods.join(", ")),
                self.undo_outage(&outage),
            )
            .await
    }

    /// Waits until the remaining nodes agree that other nodes own the absent nodes' slots.
    pub async fn taken_over(&mut self, outage: &Outage) -> Result<ClusterObservation, TrialError> {
        self.seen_by_survivors(outage, "to have other owners of their slots", |outage, seen| {
            let views = seen.node_tables().filter(|(pod, _)| !outage.has(pod));
            for (pod, nodes) in views {
                let owns = |id: &&str| nodes.by_id(id).is_some_and(|node| !node.slots.is_empty());
                if let Some(absent) = outage.nodes().find(owns) {
                    let name = outage.before.node_name(absent);
                    return Err(format!("{pod} still sees {name} as the owner of its slots"));
                }
            }
            survivors(outage, seen).try_for_each(|(pod, state)| match state {
                "ok" => Ok(()),
                state => Err(format!("{pod} says {state}")),
            })
        })
        .await
    }

    /// Waits until every remaining node marks the absent nodes as failed.
    pub async fn marked_as_failed(&mut self, outage: &Outage) -> Result<ClusterObservation, TrialError> {
        self.seen_by_survivors(outage, "to be marked as failed", |outage, seen| {
            for (pod, nodes) in seen.node_tables().filter(|(pod, _)| !outage.has(pod)) {
                let present = |id: &&str| nodes.by_id(id).is_some_and(|node| !node.has(&Flag::Failed));
                if let Some(node) = outage.nodes().find(present) {
                    let name = outage.before.node_name(node);
                    return Err(format!("{pod} does not mark {name} as failed"));
                }
            }
            Ok(())
        })
        .await
    }

    /// Waits until every remaining node reports the cluster as down, as it must while slots have no
    /// owner.
    pub async fn cluster_is_down(&mut self, outage: &Outage) -> Result<ClusterObservation, TrialError> {
        self.seen_by_survivors(outage, "to bring the cluster down", |outage, seen| {
            survivors(outage, seen).try_for_each(|(pod, state)| match state {
                "fail" => Ok(()),
                state => Err(format!("{pod} says {state}")),
            })
        })
        .await
    }

    async fn seen_by_survivors(
        &mut self,
        outage: &Outage,
        expected: &str,
        noticed: impl Fn(&Outage, &ClusterObservation) -> Result<(), String>,
    ) -> Result<ClusterObservation, TrialError> {
        let subject = outage.pods.join(", ");
        let name = format!("wait for {subject} {expected}");
        let budget = self.environment().deadlines.healthy;
        let what = Expectation::new(subject, expected, budget).pausing(self.timeline().deadline_pauses());
        let observer = self.observer(self.deployment.values()?);
        let seen = wait::poll(what, INTERVAL, || async {
            match observer.observe().await {
                Ok(seen) => match noticed(outage, &seen) {
                    Ok(()) => Verdict::Ready(seen),
                    Err(not_yet) => Verdict::NotYet(not_yet),
                },
                Err(error) => Verdict::NotYet(error.to_string()),
            }
        });
        Ok(self.recorder.steps.run(name, seen).await?)
    }

    async fn take_down(&self, names: &[String], before: ClusterObservation) -> Result<Outage, TrialError> {
        let pods = self.pods();
        let first = names
            .first()
            .ok_or_else(|| TrialError::Invalid("no pod to keep down".to_owned()))?;
        let pod = pods
            .get(first)
            .await
            .map_err(|source| TrialError::api(format!("read pod {first}"), source))?;
        let owner = pod
            .owner_references()
            .iter()
            .find(|owner| owner.kind == "StatefulSet");
        let set = owner
            .map(|owner| owner.name.clone())
            .ok_or_else(|| TrialError::Invalid(format!("pod {first} belongs to no StatefulSet")))?;
        let sets = self.stateful_sets();
        let failed = |source| TrialError::api(format!("keep pods of StatefulSet {set} down"), source);
        let restore = restore::restoring(&sets.get(&set).await.map_err(failed)?);
        let elsewhere = json!({"spec": {
            "updateStrategy": {"type": "OnDelete", "rollingUpdate": null},
            "template": {"spec": {"nodeSelector": {NOWHERE: "true"}}},
        }});
        self.patch_set(&set, &elsewhere).await?;
        let went = names.iter().map(|name| self.replace_with_pending(name));
        futures::future::try_join_all(went).await?;
        Ok(Outage {
            pods: names.to_vec(),
            before,
            set,
            restore,
        })
    }

    /// Deletes a pod, and waits until its replacement exists and cannot run.
    async fn replace_with_pending(&self, name: &str) -> Result<(), TrialError> {
        let pods = self.pods();
        let failed = |source| TrialError::api(format!("delete pod {name}"), source);
        let before = pods.get(name).await.map_err(failed)?;
        pods.delete(name, &DeleteParams::default())
            .await
            .map_err(failed)?;
        let budget = self.environment().deadlines.pod_replacement;
        let what = Expectation::new(
            format!("pod {name}"),
            "to be deleted, and its replacement to stay pending",
            budget,
        )
        .pausing(self.timeline().deadline_pauses());
        let gone = wait::object(&pods, name, what, |pod: Option<&Pod>| match pod {
            Some(pod) if pod.uid() == before.uid() => Verdict::NotYet("it is still there".to_owned()),
            Some(pod) if conditions::is_running(pod) => {
                Verdict::Never("its replacement already runs".to_owned())
            }
            Some(_) => Verdict::Ready(()),
            None => Verdict::NotYet("it has no replacement yet".to_owned()),
        });
        gone.await
            .map_err(|error| TrialError::Invalid(format!("the pod was not kept down: {error}")))
    }

    async fn undo_outage(&self, outage: &Outage) -> Result<(), TrialError> {
        self.patch_set(&outage.set, &outage.restore).await?;
        let pods = self.pods();
        for name in &outage.pods {
            let pending = pods.get_opt(name).await;
            let pending = pending.map_err(|source| TrialError::api(format!("read pod {name}"), source))?;
            // Once its strategy is restored, the controller may have replaced the pod already. Its
            // successor must not be killed while it starts.
            let Some(how) = pending.as_ref().and_then(restore::deletion_if_kept_away) else {
                continue;
            };
            match pods.delete(name, &how).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(source) => return Err(TrialError::api(format!("delete pod {name}"), source)),
            }
        }
        let budget = self.environment().deadlines.pod_replacement;
        let what = Expectation::new(outage.pods.join(", "), "to run again", budget)
            .pausing(self.timeline().deadline_pauses());
        let back = wait::objects(&pods, watcher::Config::default(), what, |found| {
            let missing = outage.pods.iter().find(|name| {
                let mut running = found.values().filter(|pod| conditions::is_running(pod));
                !running.any(|pod| pod.name_any() == **name)
            });
            missing.map_or(Verdict::Ready(()), |name| {
                Verdict::NotYet(format!("{name} does not run"))
            })
        });
        Ok(back.await?)
    }

    async fn patch_set(&self, name: &str, patch: &Value) -> Result<(), TrialError> {
        let sets = self.stateful_sets();
        let patched = sets
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched
            .map(drop)
            .map_err(|source| TrialError::api(format!("change StatefulSet {name}"), source))
    }

    fn stateful_sets(&self) -> Api<StatefulSet> {
        Api::namespaced(self.client(), self.namespace())
    }
}

/// Returns each remaining node with the cluster state that it reports.
fn survivors<'a>(
    outage: &'a Outage,
    seen: &'a ClusterObservation,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let stayed = seen.pods.iter().filter(|pod| !outage.has(&pod.name));
    stayed.map(|pod| {
        let view = seen.views.get(&pod.name).and_then(|view| view.as_ref().ok());
        let info = view.and_then(|view| view.cluster_info.as_ref());
        let state = info.map_or("nothing", |info| info.cluster_state.as_str());
        (pod.name.as_str(), state)
    })
}
