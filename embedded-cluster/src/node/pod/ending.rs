//! How a container instance ends: by itself, for a failed probe, or because the pod is stopped.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until};

use super::board::{Running, Terminated};
use super::container::{ContainerTask, Instance, Stop};
use super::handler::{Outcome, Target};
use crate::node::helper::cgroup;
use crate::node::reaper::Exit;

/// The kubelet leaves a container at least this long between its preStop hook and SIGKILL.
const MINIMUM_GRACE: Duration = Duration::from_secs(2);

/// The kubelet's limits for termination messages.
const MESSAGE_BYTES: usize = 4096;
const FALLBACK_LINES: usize = 80;
const FALLBACK_BYTES: usize = 2048;

impl ContainerTask {
    /// From running to ended.
    pub(super) async fn see_through(&mut self, mut instance: Instance) -> Terminated {
        let exit = match self.post_start(&mut instance).await {
            Some(exit) => exit,
            None => self.until_ended(&mut instance).await,
        };
        // Every process of the container has gone with its init; only what they left in the pipes is missing.
        let _ = tokio::time::timeout(Duration::from_secs(1), instance.log.finished()).await;
        let oom =
            instance.configuration.memory_limit.is_some() && cgroup::was_out_of_memory(&instance.running.id);
        let message = self.termination_message(&instance, exit).await;
        self.clean_up(&instance.running.id, &instance.running.bundle);
        Terminated {
            id: instance.running.id.clone(),
            exit_code: exit.code(),
            reason: if oom {
                "OOMKilled"
            } else if exit.code() == 0 {
                "Completed"
            } else {
                "Error"
            }
            .to_owned(),
            message,
            started_at: Some(instance.running.started_at),
            finished_at: Timestamp::now(),
        }
    }

    pub(super) async fn until_ended(&mut self, instance: &mut Instance) -> Exit {
        tokio::select! {
            exit = &mut instance.ending => exit.unwrap_or(Exit::LOST),
            Some(kill) = instance.kills.recv() => {
                let seconds = kill.grace_seconds.unwrap_or_else(|| self.pod.grace_seconds());
                let deadline = Instant::now() + Duration::from_secs(seconds.max(0).unsigned_abs());
                self.terminate(instance, &kill.message, Some(deadline)).await
            }
            () = stop_requested(&mut self.stop) => {
                let message = format!("Stopping container {}", self.container.name);
                self.terminate(instance, &message, None).await
            }
        }
    }

    /// Runs the postStart hook; the exit, if the container did not survive it.
    pub(super) async fn post_start(&mut self, instance: &mut Instance) -> Option<Exit> {
        let hook = self.container.lifecycle.as_ref()?.post_start.clone()?;
        let pod_ip = self.pod.pod_ip();
        let pod = Arc::clone(&self.pod);
        let container = self.container.clone();
        let running = instance.running.clone();
        let target = Target {
            executor: &pod.node.executor,
            running: &running,
            container: &container,
            pod_ip: &pod_ip,
        };
        let outcome = tokio::select! {
            outcome = target.hook(&hook) => outcome,
            exit = &mut instance.ending => return Some(exit.unwrap_or(Exit::LOST)),
            () = stop_requested(&mut self.stop) => return None,
        };
        let (Outcome::Failure(text) | Outcome::Error(text)) = outcome else {
            return None;
        };
        self.pod.warning(
            Some(&self.container.name),
            "FailedPostStartHook",
            format!("PostStartHook failed: {text}"),
        );
        let deadline = Instant::now() + Duration::from_secs(self.pod.grace_seconds().max(0).unsigned_abs());
        Some(
            self.terminate(instance, "FailedPostStartHook", Some(deadline))
                .await,
        )
    }

    /// preStop, the stop signal, and SIGKILL when the time is up. Without a deadline of its own the pod's
    /// counts, which may still be brought forward.
    pub(super) async fn terminate(
        &mut self,
        instance: &mut Instance,
        message: &str,
        deadline: Option<Instant>,
    ) -> Exit {
        self.pod.normal(Some(&self.container.name), "Killing", message);
        let mut least = Instant::now();
        if let Some(hook) = self
            .container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.pre_stop.clone())
        {
            let (pod, container, running) = (
                Arc::clone(&self.pod),
                self.container.clone(),
                instance.running.clone(),
            );
            let pod_ip = pod.pod_ip();
            let target = Target {
                executor: &pod.node.executor,
                running: &running,
                container: &container,
                pod_ip: &pod_ip,
            };
            tokio::select! {
                outcome = target.hook(&hook) => if let Outcome::Failure(text) | Outcome::Error(text) = outcome {
                    self.pod.warning(Some(&self.container.name), "FailedPreStopHook", format!("PreStopHook failed: {text}"));
                },
                exit = &mut instance.ending => return exit.unwrap_or(Exit::LOST),
                () = passed(&mut self.stop, deadline, least) => {}
            }
            least = Instant::now() + MINIMUM_GRACE;
        }
        self.signal(&instance.running, instance.configuration.stop_signal);
        tokio::select! {
            exit = &mut instance.ending => return exit.unwrap_or(Exit::LOST),
            () = passed(&mut self.stop, deadline, least) => {}
        }
        self.signal(&instance.running, Signal::SIGKILL);
        (&mut instance.ending).await.unwrap_or(Exit::LOST)
    }

    pub(super) fn signal(&self, running: &Running, signal: Signal) {
        if let Err(error) = self.pod.node.executor.reaper.kill(running.pid, signal) {
            tracing::warn!(container = self.container.name, %signal, %error, "signal refused");
        }
    }

    pub(super) async fn termination_message(&self, instance: &Instance, exit: Exit) -> String {
        let mut message = fs::read(&instance.message_file).unwrap_or_default();
        message.truncate(MESSAGE_BYTES);
        let fall_back = self.container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if message.is_empty() && fall_back && exit.code() != 0 {
            return instance.log.tail(FALLBACK_LINES, FALLBACK_BYTES).await;
        }
        String::from_utf8_lossy(&message).into_owned()
    }

    pub(super) fn clean_up(&self, id: &str, directory: &Path) {
        cgroup::remove(id);
        for path in [self.pod.node.state_dir.join("run").join(id), directory.to_owned()] {
            if let Err(error) = fs::remove_dir_all(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::debug!(path = %path.display(), %error, "left behind until the pod is gone");
            }
        }
    }
}

pub(super) async fn stop_requested(stop: &mut Stop) {
    // The sender lives as long as the pod's context, which the caller holds.
    let _ = stop.wait_for(Option::is_some).await;
}

/// Completes when the deadline (its own, or the pod's, which may move) has passed, but not before `least`.
pub(super) async fn passed(stop: &mut Stop, own: Option<Instant>, least: Instant) {
    loop {
        let pods = *stop.borrow_and_update();
        let deadline = match (own, pods) {
            (Some(own), Some(pods)) => own.min(pods),
            (Some(deadline), None) | (None, Some(deadline)) => deadline,
            (None, None) => least,
        };
        tokio::select! {
            // Time itself is the point: the grace period.
            () = sleep_until(deadline.max(least)) => return,
            Ok(()) = stop.changed() => {}
        }
    }
}
