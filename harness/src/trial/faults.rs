//! Faults of single servers and Jobs. Each act proves that it took place.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use manifests::Values;
use redis::Value;

use super::context::Context;
use super::error::TrialError;
use super::operations::node_id;
use crate::checks::replication;
use crate::release::HookOutput;
use crate::secret::Password;
use crate::valkey::ClusterObservation;
use crate::wait::{self, Expectation, Verdict, conditions};

/// Interval at which to check for an act's effect.
const INTERVAL: Duration = Duration::from_millis(100);

/// The label of pods that belong to a Job.
const JOB_LABEL: &str = "batch.kubernetes.io/job-name";

impl Context {
    /// Runs `CLUSTER FAILOVER`: the replica `pod` becomes the primary of its shard, with all of its
    /// primary's data.
    pub async fn fail_over_to(&mut self, pod: &str) -> Result<(), TrialError> {
        self.needs_followers()?;
        self.recorder
            .steps
            .clone()
            .run(format!("fail over to {pod}"), self.promoted(pod))
            .await
    }

    /// Ends the trial if a replica is known not to follow its primary. It cannot take over, and
    /// what comes of that is no further defect.
    ///
    /// # Errors
    /// [`TrialError::NotJudged`] if a violation of replication was noted.
    pub fn needs_followers(&self) -> Result<(), TrialError> {
        if self.recorder.has_noted(replication::NAME) {
            let reason = "a replica does not follow its primary, and cannot take over";
            return Err(TrialError::NotJudged(reason.to_owned()));
        }
        Ok(())
    }

    /// Ends the trial if the cluster may go on without some of its slots, as a user may have asked.
    ///
    /// # Errors
    /// [`TrialError::NotJudged`] if `cluster-require-full-coverage` is `no`.
    pub async fn needs_full_coverage(&self) -> Result<(), TrialError> {
        const DIRECTIVE: &str = "cluster-require-full-coverage";
        for pod in self.server_pods().await? {
            // A server may deny this command to its clients.
            let Ok(answer) = self.command(&pod.name_any(), &["CONFIG", "GET", DIRECTIVE]).await else {
                continue;
            };
            let set: BTreeMap<String, String> = redis::from_redis_value(answer).unwrap_or_default();
            if set.get(DIRECTIVE).is_some_and(|value| value == "no") {
                let reason = format!("{DIRECTIVE} is no: a cluster that lost slots serves the others");
                return Err(TrialError::NotJudged(reason));
            }
        }
        Ok(())
    }

    /// Runs `CLUSTER REPLICATE`: `pod` becomes a replica of the node `primary`. Returns the ID of
    /// the earlier primary.
    pub async fn follow(&mut self, pod: &str, primary: &str) -> Result<String, TrialError> {
        self.recorder
            .steps
            .clone()
            .run(
                format!("{pod} follows another primary"),
                self.following(pod, primary),
            )
            .await
    }

    /// Makes every server accept `password` in addition to its current passwords. In a cluster,
    /// each server also uses `password` towards its primary.
    pub async fn accept_also(&mut self, password: &Password) -> Result<(), TrialError> {
        let accepting = self.accepting(password);
        let done = self
            .recorder
            .steps
            .run("accept another password too", accepting)
            .await;
        self.credentials.passwords.add(password.clone());
        done
    }

    /// Scales, and deletes the scale Job's pod after some of the slots have moved, but not all of
    /// them.
    pub async fn scale_and_kill_job(&mut self, values: Values) -> Result<Vec<HookOutput>, TrialError> {
        let before = self.observe().await?;
        let deadline = self.environment().deadlines.hook;
        let killer = kill_job_in_the_middle(self.pods(), self.observer(&values), before.clone(), deadline);
        let killer = tokio::spawn(killer);
        let scaled = Box::pin(self.scale(values)).await;
        let killed = killer.await;
        let invalid = |why: String| {
            TrialError::Invalid(format!(
                "the scale Job was not killed while it moved slots: {why}"
            ))
        };
        let moved = killed
            .unwrap_or_else(|_| Err("the kill was not tried".to_owned()))
            .map_err(invalid)?;
        let outputs = scaled?;
        let finally = self
            .deployment
            .past
            .last()
            .map_or(0, |after| slots_of_newcomers(&before, after));
        left_to_do(moved, finally).map_err(invalid)?;
        Ok(outputs)
    }

    async fn promoted(&self, pod: &str) -> Result<(), TrialError> {
        self.command(pod, &["CLUSTER", "FAILOVER"]).await?;
        let budget = self.environment().deadlines.healthy;
        let what = Expectation::new(pod, "to be the primary of its shard", budget);
        let promoted = wait::poll(what, INTERVAL, || async {
            match self.command(pod, &["ROLE"]).await {
                Ok(Value::Array(role)) if role.first().is_some_and(is_master) => Verdict::Ready(()),
                Ok(_) => Verdict::NotYet("it is a replica".to_owned()),
                Err(error) => Verdict::NotYet(error.to_string()),
            }
        });
        Ok(promoted.await?)
    }

    async fn following(&self, pod: &str, primary: &str) -> Result<String, TrialError> {
        let seen = self.observe().await?;
        let before =
            primary_of(&seen, pod).ok_or_else(|| TrialError::Invalid(format!("{pod} is not a replica")))?;
        self.command(pod, &["CLUSTER", "REPLICATE", primary]).await?;
        let budget = self.environment().deadlines.healthy;
        let what = Expectation::new(pod, "to follow its new primary, in sync", budget);
        let followed = wait::poll(what, INTERVAL, || async {
            let seen = match self.observe().await {
                Ok(seen) => seen,
                Err(error) => return Verdict::NotYet(error.to_string()),
            };
            let link = seen.views.get(pod).and_then(|view| view.as_ref().ok());
            let linked = link.is_some_and(|view| view.replication.link_up == Some(true));
            if linked && primary_of(&seen, pod).as_deref() == Some(primary) {
                return Verdict::Ready(());
            }
            Verdict::NotYet("it does not follow it yet".to_owned())
        });
        followed.await?;
        Ok(before)
    }

    async fn accepting(&self, password: &Password) -> Result<(), TrialError> {
        let also = format!(">{}", password.expose());
        let cluster = self.mode() == manifests::Mode::Cluster;
        for pod in self.server_pods().await?.iter().map(ResourceExt::name_any) {
            self.command(&pod, &["ACL", "SETUSER", "default", &also]).await?;
            if cluster {
                self.command(&pod, &["CONFIG", "SET", "masterauth", password.expose()])
                    .await?;
            }
        }
        Ok(())
    }

    /// Sends one command to the server of `pod`.
    pub(super) async fn command(&self, pod: &str, words: &[&str]) -> Result<Value, TrialError> {
        let mut connection = self.connect(pod).await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer = connection.send_packed_command(&command).await;
        answer.map_err(|source| TrialError::Answer {
            pod: pod.to_owned(),
            source,
        })
    }
}

fn is_master(role: &Value) -> bool {
    matches!(role, Value::BulkString(name) if name == b"master")
}

fn primary_of(seen: &ClusterObservation, pod: &str) -> Option<String> {
    let view = seen.views.get(pod)?.as_ref().ok()?;
    view.nodes.as_ref()?.myself()?.primary.clone()
}

/// Waits until new owners have some of the slots, and deletes the running Job's pod. Returns the
/// number of slots that had moved. An error says why the trial proves nothing.
async fn kill_job_in_the_middle(
    pods: Api<Pod>,
    observer: super::observer::Observer,
    before: ClusterObservation,
    deadline: Duration,
) -> Result<usize, String> {
    let what = Expectation::new("the scale Job", "to move slots", deadline);
    let moved = wait::poll(what, INTERVAL, || async {
        match observer.observe().await {
            Ok(seen) => match slots_of_newcomers(&before, &seen) {
                0 => Verdict::NotYet("no slot has moved".to_owned()),
                moved => Verdict::Ready(moved),
            },
            Err(error) => Verdict::NotYet(error.to_string()),
        }
    });
    let moved = moved.await.map_err(|error| error.to_string())?;
    let jobs = watcher::Config::default().labels(JOB_LABEL);
    let what = Expectation::new("the scale Job's pod", "to run", Duration::from_secs(1));
    let running = wait::objects(&pods, jobs, what, |pods| {
        let running = pods.values().find(|pod| conditions::is_running(pod));
        running.map_or_else(
            || Verdict::NotYet("none runs".to_owned()),
            |pod| Verdict::Ready(pod.clone()),
        )
    });
    let job = running.await.map_err(|error| error.to_string())?;
    let now = DeleteParams::default().grace_period(0);
    pods.delete(&job.name_any(), &now)
        .await
        .map_err(|error| error.to_string())?;
    Ok(moved)
}

/// Fails unless the killed Job left slots for its successor. `moved` slots had moved at the kill,
/// and `finally` in the end.
fn left_to_do(moved: usize, finally: usize) -> Result<(), String> {
    if moved < finally {
        return Ok(());
    }
    Err(format!("all {moved} slots had moved already"))
}

/// Returns the number of slots that belong to new nodes.
fn slots_of_newcomers(before: &ClusterObservation, seen: &ClusterObservation) -> usize {
    let known: Vec<&str> = before
        .pods
        .iter()
        .filter_map(|pod| node_id(before, &pod.name))
        .collect();
    let views = seen.node_tables().map(|(_, nodes)| {
        let new = nodes
            .nodes
            .iter()
            .filter(|node| !known.contains(&node.id.as_str()));
        new.map(|node| node.slots.len()).sum::<usize>()
    });
    views.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_was_killed_midway_if_its_successor_moved_slots() {
        // 6 to 8 pods: a fourth primary gets 4096 slots, in three parts.
        assert_eq!(left_to_do(1365, 4096), Ok(()));
        assert_eq!(left_to_do(2731, 4096), Ok(()));
        let late = "all 4096 slots had moved already".to_owned();
        assert_eq!(left_to_do(4096, 4096), Err(late));
    }
}
