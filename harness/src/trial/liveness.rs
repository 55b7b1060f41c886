//! Liveness probes: a healthy server must stay alive while its cluster loses another shard.
//!
//! The loss exists only in one server's view, made with `CLUSTER DELSLOTS`. Its peers correct the
//! view within a second or two, and nothing else notices. The probe runs as the kubelet would run
//! it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use redis::Value;

use super::context::Context;
use super::error::TrialError;
use super::exec::ExecEnd;
use super::operations::node_id;
use crate::checks::Violation;
use crate::checks::server_container::server_container;
use crate::valkey::ClusterObservation;
use crate::wait::{self, Expectation, Verdict};

/// The promise's name.
const NAME: &str = "liveness";

/// Deadline for a probe run during which the slot stays lost throughout.
const BUDGET: Duration = Duration::from_secs(30);

/// Interval between attempts. Peers announce their slots about as often.
const INTERVAL: Duration = Duration::from_millis(300);

impl Context {
    /// Runs a server's liveness probe while the server sees a slot of another shard lost. Fails if
    /// the probe fails, because the kubelet would then restart every healthy server for one lost
    /// shard. A probe without a command does not depend on the cluster's state.
    pub async fn verify_liveness_without_a_shard(&mut self) -> Result<(), TrialError> {
        let verdict = self
            .recorder
            .steps
            .clone()
            .run(
                "run a liveness probe while a shard is lost",
                self.liveness_without_a_shard(),
            )
            .await;
        if verdict.is_ok() {
            self.recorder.kept([NAME]);
        }
        verdict
    }

    async fn liveness_without_a_shard(&self) -> Result<(), TrialError> {
        let seen = self.observe().await?;
        let invalid = |why: &str| TrialError::Invalid(why.to_owned());
        let pods = self.server_pods().await?;
        let pod = pods.first().ok_or_else(|| invalid("there is no server"))?;
        let Some(command) = liveness_command(pod) else {
            return Ok(());
        };
        let name = pod.name_any();
        let slot = slot_of_another(&seen, &name).ok_or_else(|| invalid("no other shard has slots"))?;
        if let Some(why) = self.dead(&name, &command).await? {
            return Err(TrialError::Invalid(format!(
                "the liveness probe of {name} fails while the cluster is healthy: {why}"
            )));
        }
        let what = Expectation::new(&name, "to see a lost slot while its probe runs", BUDGET);
        let probed = wait::poll(what, INTERVAL, || async {
            match self.probed_without(&name, &command, slot).await {
                Ok(Some(dead)) => Verdict::Ready(dead),
                Ok(None) => Verdict::NotYet("its peers restored the slot too soon".to_owned()),
                Err(error) => Verdict::NotYet(error.to_string()),
            }
        });
        let dead = probed
            .await
            .map_err(|error| TrialError::Invalid(error.to_string()))?;
        TrialError::unless_kept(
            dead.map(|why| violation(&name, &why, &command))
                .into_iter()
                .collect(),
        )
    }

    /// Returns the reason why the probe failed while the slot was lost, if it failed. Returns
    /// nothing if the slot came back too soon.
    async fn probed_without(
        &self,
        pod: &str,
        command: &[String],
        slot: u16,
    ) -> Result<Option<Option<String>>, TrialError> {
        self.command(pod, &["CLUSTER", "DELSLOTS", &slot.to_string()])
            .await?;
        let before = self.sees_failure(pod).await?;
        let dead = self.dead(pod, command).await?;
        Ok((before && self.sees_failure(pod).await?).then_some(dead))
    }

    /// Returns the reason why the kubelet would restart the container, if it would.
    async fn dead(&self, pod: &str, command: &[String]) -> Result<Option<String>, TrialError> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let ran = self.exec_in_server(pod, &words).await?;
        Ok(match ran.end {
            ExecEnd::Exited(0) => None,
            ExecEnd::Exited(code) => Some(format!("exit code {code}")),
            ExecEnd::NotStarted(why) => Some(why),
        })
    }

    async fn sees_failure(&self, pod: &str) -> Result<bool, TrialError> {
        let info = self.command(pod, &["CLUSTER", "INFO"]).await?;
        let text = match &info {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => text.clone(),
            _ => String::new(),
        };
        Ok(text.contains("cluster_state:fail"))
    }
}

fn violation(pod: &str, why: &str, command: &[String]) -> Violation {
    Violation::new(
        NAME,
        pod,
        "its liveness probe to succeed while another shard is lost",
        format!("it fails ({why}): one lost shard restarts all healthy servers"),
    )
    .with_evidence(format!("the probe runs {command:?}"))
}

/// Returns the command of the server's liveness probe, if it has one.
fn liveness_command(pod: &Pod) -> Option<Vec<String>> {
    let probe = server_container(pod)?.liveness_probe.as_ref()?;
    probe.exec.as_ref()?.command.clone()
}

/// Returns a slot that belongs to a shard other than `pod`'s.
fn slot_of_another(seen: &ClusterObservation, pod: &str) -> Option<u16> {
    let view = seen.views.get(pod)?.as_ref().ok()?;
    let nodes = view.nodes.as_ref()?;
    let own = node_id(seen, pod)?;
    let primary = nodes.myself()?.primary.as_deref().unwrap_or(own);
    let other = nodes
        .nodes
        .iter()
        .find(|node| node.id != primary && !node.slots.is_empty())?;
    other.slots.iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_probe_with_a_command_can_ask_for_a_state() {
        let pod = |probe: &str| -> Pod {
            let yaml = format!(
                "{{metadata: {{name: vk-0}}, spec: {{containers: [{{name: valkey, livenessProbe: {probe}}}]}}}}"
            );
            serde_yaml::from_str(&yaml).expect("the test's own YAML is a pod")
        };
        assert_eq!(liveness_command(&pod("{tcpSocket: {port: 6379}}")), None);
        assert_eq!(
            liveness_command(&pod("{exec: {command: [valkey-cli, ping]}}")),
            Some(vec!["valkey-cli".to_owned(), "ping".to_owned()])
        );
    }

    #[test]
    fn the_lost_slot_is_another_shards() {
        let seen = crate::checks::fixture::Fixture::cluster(6, 1).observation();
        assert_eq!(slot_of_another(&seen, "valkey-0"), Some(5461));
        assert_eq!(slot_of_another(&seen, "valkey-1"), Some(0));
        assert_eq!(
            slot_of_another(&seen, "valkey-3"),
            Some(5461),
            "a replica of valkey-0"
        );
    }
}
