//! The end of a container instance: by itself, after a failed probe, or because the pod is stopped.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until};

use super::container::{ContainerTask, Instance, Stop};
use super::container_records::{Running, Terminated};
use super::handler::{HandlerTarget, Outcome};
use crate::node::reaper::Exit;
use crate::node::removal::remove_in_background;
use crate::seconds::bounded;

/// The least time between a preStop hook and SIGKILL, as in the kubelet.
const MINIMUM_GRACE: Duration = Duration::from_secs(2);

/// The kubelet's limit of bytes for termination messages; the limit of lines follows.
const MESSAGE_BYTES: u64 = 4096;
const FALLBACK_LINES: usize = 80;
const FALLBACK_BYTES: usize = 2048;

impl ContainerTask {
    /// Watches an instance from running to ended.
    pub(super) async fn see_through(&mut self, instance: &mut Instance) -> Terminated {
        let exit = match self.post_start(instance).await {
            Some(exit) => exit,
            None => {
                self.record_running(instance);
                self.until_ended(instance).await
            }
        };
        let finished_at = Timestamp::now();
        // Every process of the container has ended with its init. Only the output left in the pipes
        // is missing.
        let _ = tokio::time::timeout(Duration::from_secs(1), instance.log.finished()).await;
        let oom = instance.configuration.memory_limit.is_some()
            && self.group(&instance.running.id).was_out_of_memory();
        let message = self.termination_message(instance, exit).await;
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
            finished_at,
        }
    }

    pub(super) async fn until_ended(&mut self, instance: &mut Instance) -> Exit {
        tokio::select! {
            exit = &mut instance.ending => {
                // This end was not requested, so the node notices it at the next relist.
                tokio::select! {
                    () = self.pod.node.relist() => {}
                    () = stop_requested(&mut self.stop) => {}
                }
                exit.unwrap_or(Exit::LOST)
            }
            Some(kill) = instance.kills.recv() => {
                instance.killed_by_probe = true;
                let seconds = kill.grace_seconds.unwrap_or_else(|| self.pod.grace_seconds());
                let deadline = Instant::now() + bounded(seconds);
                self.terminate(instance, &kill.message, Some(deadline)).await
            }
            () = stop_requested(&mut self.stop) => {
                let message = format!("Stopping container {}", self.container.name);
                self.terminate(instance, &message, None).await
            }
        }
    }

    /// Runs the postStart hook; returns the exit if the container did not survive it.
    pub(super) async fn post_start(&mut self, instance: &mut Instance) -> Option<Exit> {
        let hook = self.container.lifecycle.as_ref()?.post_start.clone()?;
        let pod_ip = self.pod.pod_ip();
        let pod = Arc::clone(&self.pod);
        let container = self.container.clone();
        let running = instance.running.clone();
        let target = HandlerTarget {
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
        let deadline = Instant::now() + bounded(self.pod.grace_seconds());
        Some(
            self.terminate(instance, "FailedPostStartHook", Some(deadline))
                .await,
        )
    }

    /// Runs preStop, sends the stop signal, and sends SIGKILL at the deadline. Without its own
    /// deadline, the pod's deadline applies, which may still move earlier.
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
            let target = HandlerTarget {
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
        let message = end_of(&instance.message_file, MESSAGE_BYTES).unwrap_or_default();
        let fall_back = self.container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if message.is_empty() && fall_back && exit.code() != 0 {
            return instance.log.tail(FALLBACK_LINES, FALLBACK_BYTES).await;
        }
        String::from_utf8_lossy(&message).into_owned()
    }

    pub(super) fn clean_up(&self, id: &str, directory: &Path) {
        self.group(id).remove();
        remove_in_background(self.pod.node.state_dir.join("run").join(id));
        remove_in_background(directory);
    }
}

/// Reads the last bytes of a file that a container has written, whatever its size.
fn end_of(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) async fn stop_requested(stop: &mut Stop) {
    // The sender lives as long as the pod's context, which the caller holds.
    let _ = stop.wait_for(Option::is_some).await;
}

/// Completes when the deadline has passed, but not before `least`. The deadline is the earlier one
/// of `own` and the pod's, which may move.
pub(super) async fn passed(stop: &mut Stop, own: Option<Instant>, least: Instant) {
    loop {
        let pods = *stop.borrow_and_update();
        let deadline = match (own, pods) {
            (Some(own), Some(pods)) => own.min(pods),
            (Some(deadline), None) | (None, Some(deadline)) => deadline,
            (None, None) => least,
        };
        tokio::select! {
            // This wait is the grace period.
            () = sleep_until(deadline.max(least)) => return,
            Ok(()) = stop.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_huge_termination_message_only_the_end_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // A sparse file: it takes no space here, but reading it whole would take all memory.
        file.as_file().set_len(1 << 40).unwrap();
        let mut end = File::options().append(true).open(file.path()).unwrap();
        std::io::Write::write_all(&mut end, b"last words").unwrap();
        let message = end_of(file.path(), MESSAGE_BYTES).unwrap();
        assert_eq!(message.len(), 4096);
        assert!(message.ends_with(b"last words"));
    }
}
