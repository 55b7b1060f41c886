//! One container of a pod, through all its instances: image, configuration, start, hooks, the end, back-off.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::PodContext;
use super::backoff::{Backoff, render};
use super::board::{Kill, Role, Running, State, Terminated};
use super::configuration::{Configuration, configure};
use super::handler::{Outcome, Target};
use crate::images::Image;
use crate::node::helper::cgroup;
use crate::node::helper::protocol::StartContainer;
use crate::node::launcher::{LaunchError, Stdio3};
use crate::node::logs::ContainerLog;
use crate::node::reaper::Exit;
use crate::node::security::describe;

/// The kubelet looks again at a container whose configuration is wrong about this often; a change of the
/// ConfigMap or Secret it needs is noticed at once.
const CONFIG_RETRY: Duration = Duration::from_secs(10);
const IMAGE_RETRY: Duration = Duration::from_secs(10);
const IMAGE_RETRY_MAX: Duration = Duration::from_secs(300);

/// The kubelet leaves a container at least this long between its preStop hook and SIGKILL.
const MINIMUM_GRACE: Duration = Duration::from_secs(2);

/// The kubelet's limits for termination messages.
const MESSAGE_BYTES: usize = 4096;
const FALLBACK_LINES: usize = 80;
const FALLBACK_BYTES: usize = 2048;

type Ending = tokio::sync::oneshot::Receiver<Exit>;

/// When the container must be gone; `None` while it may run.
pub(super) type Stop = watch::Receiver<Option<Instant>>;

/// Works on one container until it will not run again.
pub(super) struct ContainerTask {
    pub(super) pod: Arc<PodContext>,
    pub(super) container: Container,
    pub(super) role: Role,
    pub(super) stop: Stop,
}

/// Why an instance did not start.
enum NotStarted {
    Image { reason: &'static str, message: String },
    Configuration(String),
    Runtime(String),
}

struct Instance {
    running: Running,
    ending: Ending,
    log: ContainerLog,
    kills: mpsc::Receiver<Kill>,
    configuration: Configuration,
    message_file: PathBuf,
}

impl ContainerTask {
    /// Runs instances until the restart policy or the pod's end says stop.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut image_retry = IMAGE_RETRY;
        let mut number = 0;
        while !self.stopping() {
            let ended = match self.start(number).await {
                Ok(instance) => {
                    image_retry = IMAGE_RETRY;
                    let ended = self.see_through(instance).await;
                    number += 1;
                    ended
                }
                Err(NotStarted::Image { reason, message }) => {
                    self.wait_for_image(reason, message, image_retry).await;
                    image_retry = (image_retry * 2).min(IMAGE_RETRY_MAX);
                    continue;
                }
                Err(NotStarted::Configuration(message)) => {
                    self.wait_for_configuration(message).await;
                    continue;
                }
                Err(NotStarted::Runtime(message)) => {
                    number += 1;
                    self.never_started(message)
                }
            };
            let exit_code = ended.exit_code;
            self.pod.board.update(&self.container.name, |record| {
                record.state = State::Terminated(ended);
                record.startup = self.container.startup_probe.as_ref().map(|_| false);
                record.readiness = self.container.readiness_probe.as_ref().map(|_| false);
            });
            self.pod.synced();
            if self.stopping() || !self.restarts(exit_code) {
                return;
            }
            if let Some(wait) = backoff.after(Instant::now()) {
                self.back_off(wait).await;
            }
        }
    }

    fn stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    fn restarts(&self, exit_code: i32) -> bool {
        match (self.role, self.pod.restart_policy().as_str()) {
            (Role::Sidecar, _) => true,
            (Role::Init, "Never") | (_, "Never") => false,
            (Role::Main, "Always") => true,
            (Role::Init | Role::Main, _) => exit_code != 0,
        }
    }

    async fn start(&mut self, number: i32) -> Result<Instance, NotStarted> {
        let image = self.image().await?;
        let directory = self.pod.dir.join("containers").join(&self.container.name).join(number.to_string());
        let io = |error: io::Error| NotStarted::Runtime(format!("failed to prepare the container: {error}"));
        fs::create_dir_all(&directory).map_err(io)?;
        let message_file = directory.join("termination-log");
        fs::write(&message_file, "").map_err(io)?;
        fs::set_permissions(&message_file, fs::Permissions::from_mode(0o666)).map_err(io)?;
        let configuration =
            configure(&self.pod, &self.container, &image, &message_file).await.map_err(NotStarted::Configuration)?;
        configuration.spec.save(directory.join("config.json")).map_err(|error| io(io::Error::other(error)))?;
        self.pod.normal(Some(&self.container.name), "Created", format!("Created container: {}", self.container.name));
        let id = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let (pid, log) = self.launch(&id, &directory, &image, &configuration, number).await?;
        self.pod.normal(Some(&self.container.name), "Started", format!("Started container {}", self.container.name));
        let (kill, kills) = mpsc::channel(1);
        let running =
            Running { id, pid, bundle: directory, started_at: Timestamp::now(), since: Instant::now(), kill };
        let ending = self.pod.node.executor.reaper.subscribe(pid);
        self.record_running(&image, &running, &log, number);
        Ok(Instance { running, ending, log, kills, configuration, message_file })
    }

    async fn launch(
        &self,
        id: &str,
        directory: &std::path::Path,
        image: &Image,
        configuration: &Configuration,
        number: i32,
    ) -> Result<(i32, ContainerLog), NotStarted> {
        let io = |error: io::Error| NotStarted::Runtime(format!("failed to prepare the container: {error}"));
        let (stdout, stdout_end) = io::pipe().map_err(io)?;
        let (stderr, stderr_end) = io::pipe().map_err(io)?;
        let logs = self.pod.dir.join("logs");
        fs::create_dir_all(&logs).map_err(io)?;
        let path = logs.join(format!("{}-{number}.log", self.container.name));
        let log = ContainerLog::record(path, stdout.into(), stderr.into()).await.map_err(io)?;
        let null = fs::OpenOptions::new().read(true).open("/dev/null").map_err(io)?;
        let start = StartContainer {
            container: id.to_owned(),
            bundle: directory.to_owned(),
            state: self.pod.node.state_dir.join("run"),
            image_rootfs: image.rootfs.clone(),
            uid: configuration.uid,
            memory_limit: configuration.memory_limit,
        };
        let stdio = Stdio3 { stdin: null.into(), stdout: stdout_end.into(), stderr: stderr_end.into() };
        match self.pod.node.executor.launcher.start_container(start, stdio).await {
            Ok(pid) => Ok((pid, log)),
            Err(error) => {
                self.clean_up(id, directory);
                let text = match error {
                    LaunchError::Program(text) => {
                        format!("OCI runtime create failed: unable to start container process: error during container init: {text}")
                    }
                    other => format!("failed to start container: {other}"),
                };
                Err(NotStarted::Runtime(text))
            }
        }
    }

    fn record_running(&self, image: &Image, running: &Running, log: &ContainerLog, number: i32) {
        let old = self.pod.board.update(&self.container.name, |record| {
            record.image.clone_from(&image.reference);
            record.image_id = image_id(image);
            if let State::Terminated(ended) = &record.state {
                record.last = Some(ended.clone());
            }
            record.state = State::Running(running.clone());
            record.restarts = number;
            record.startup = self.container.startup_probe.as_ref().map(|_| false);
            record.readiness = self.container.readiness_probe.as_ref().map(|_| false);
            let previous = record.log.replace(log.clone());
            std::mem::replace(&mut record.previous_log, previous)
        });
        if let Some(old) = old {
            tokio::spawn(async move { old.remove().await });
        }
        self.pod.synced();
    }

    /// From running to ended.
    async fn see_through(&mut self, mut instance: Instance) -> Terminated {
        let exit = match self.post_start(&mut instance).await {
            Some(exit) => exit,
            None => self.until_ended(&mut instance).await,
        };
        // Every process of the container has gone with its init; only what they left in the pipes is missing.
        let _ = tokio::time::timeout(Duration::from_secs(1), instance.log.finished()).await;
        let oom = instance.configuration.memory_limit.is_some() && cgroup::was_out_of_memory(&instance.running.id);
        let message = self.termination_message(&instance, exit).await;
        self.clean_up(&instance.running.id, &instance.running.bundle);
        Terminated {
            id: instance.running.id.clone(),
            exit_code: exit.code(),
            reason: if oom { "OOMKilled" } else if exit.code() == 0 { "Completed" } else { "Error" }.to_owned(),
            message,
            started_at: Some(instance.running.started_at),
            finished_at: Timestamp::now(),
        }
    }

    async fn until_ended(&mut self, instance: &mut Instance) -> Exit {
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
    async fn post_start(&mut self, instance: &mut Instance) -> Option<Exit> {
        let hook = self.container.lifecycle.as_ref()?.post_start.clone()?;
        let pod_ip = self.pod.pod_ip();
        let pod = Arc::clone(&self.pod);
        let container = self.container.clone();
        let running = instance.running.clone();
        let target = Target { executor: &pod.node.executor, running: &running, container: &container, pod_ip: &pod_ip };
        let outcome = tokio::select! {
            outcome = target.hook(&hook) => outcome,
            exit = &mut instance.ending => return Some(exit.unwrap_or(Exit::LOST)),
            () = stop_requested(&mut self.stop) => return None,
        };
        let (Outcome::Failure(text) | Outcome::Error(text)) = outcome else { return None };
        self.pod.warning(Some(&self.container.name), "FailedPostStartHook", format!("PostStartHook failed: {text}"));
        let deadline = Instant::now() + Duration::from_secs(self.pod.grace_seconds().max(0).unsigned_abs());
        Some(self.terminate(instance, "FailedPostStartHook", Some(deadline)).await)
    }

    /// preStop, the stop signal, and SIGKILL when the time is up. Without a deadline of its own the pod's
    /// counts, which may still be brought forward.
    async fn terminate(&mut self, instance: &mut Instance, message: &str, deadline: Option<Instant>) -> Exit {
        self.pod.normal(Some(&self.container.name), "Killing", message);
        let mut least = Instant::now();
        if let Some(hook) = self.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.clone()) {
            let (pod, container, running) = (Arc::clone(&self.pod), self.container.clone(), instance.running.clone());
            let pod_ip = pod.pod_ip();
            let target = Target { executor: &pod.node.executor, running: &running, container: &container, pod_ip: &pod_ip };
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

    fn signal(&self, running: &Running, signal: Signal) {
        if let Err(error) = self.pod.node.executor.reaper.kill(running.pid, signal) {
            tracing::warn!(container = self.container.name, %signal, %error, "signal refused");
        }
    }

    async fn termination_message(&self, instance: &Instance, exit: Exit) -> String {
        let mut message = fs::read(&instance.message_file).unwrap_or_default();
        message.truncate(MESSAGE_BYTES);
        let fall_back = self.container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if message.is_empty() && fall_back && exit.code() != 0 {
            return instance.log.tail(FALLBACK_LINES, FALLBACK_BYTES).await;
        }
        String::from_utf8_lossy(&message).into_owned()
    }

    fn clean_up(&self, id: &str, directory: &std::path::Path) {
        cgroup::remove(id);
        for path in [self.pod.node.state_dir.join("run").join(id), directory.to_owned()] {
            if let Err(error) = fs::remove_dir_all(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::debug!(path = %path.display(), %error, "left behind until the pod is gone");
            }
        }
    }

    fn never_started(&self, message: String) -> Terminated {
        self.pod.warning(Some(&self.container.name), "Failed", format!("Error: {message}"));
        self.pod.board.update(&self.container.name, |record| {
            if let State::Terminated(ended) = &record.state {
                record.last = Some(ended.clone());
                record.restarts += 1;
            }
        });
        Terminated {
            id: format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
            exit_code: 128,
            reason: "StartError".to_owned(),
            message,
            started_at: Some(Timestamp::UNIX_EPOCH),
            finished_at: Timestamp::now(),
        }
    }

    async fn back_off(&mut self, wait: Duration) {
        let name = self.container.name.clone();
        let place = describe(&self.pod.latest());
        self.pod.warning(Some(&name), "BackOff", format!("Back-off restarting failed container {name} in pod {place}"));
        let message = format!("back-off {} restarting failed container={name} pod={place}", render(wait));
        self.waiting("CrashLoopBackOff", message);
        self.pause(wait, false).await;
    }

    fn waiting(&self, reason: &str, message: String) {
        self.pod.board.update(&self.container.name, |record| {
            if let State::Terminated(ended) = &record.state {
                record.last = Some(ended.clone());
            }
            record.state = State::Waiting { reason: reason.to_owned(), message };
        });
    }

    async fn wait_for_configuration(&mut self, message: String) {
        self.pod.warning(Some(&self.container.name), "Failed", format!("Error: {message}"));
        self.waiting("CreateContainerConfigError", message);
        self.pause(CONFIG_RETRY, true).await;
    }

    async fn wait_for_image(&mut self, reason: &'static str, message: String, wait: Duration) {
        let (name, image) = (self.container.name.clone(), self.container.image.clone().unwrap_or_default());
        self.waiting(reason, message.clone());
        if reason == "ErrImagePull" {
            self.pod.warning(Some(&name), "Failed", format!("Failed to pull image {image:?}: {message}"));
            self.pod.warning(Some(&name), "Failed", "Error: ErrImagePull");
            // Published before it is replaced, as the kubelet's next sync would do.
            self.pod.publish().await;
            self.pod.normal(Some(&name), "BackOff", format!("Back-off pulling image {image:?}"));
            self.pod.warning(Some(&name), "Failed", "Error: ImagePullBackOff");
            self.waiting("ImagePullBackOff", format!("Back-off pulling image {image:?}: ErrImagePull: {message}"));
        } else {
            self.pod.warning(Some(&name), "Failed", format!("Error: {reason}: {message}"));
        }
        self.pause(wait, false).await;
    }

    /// Waits, unless the pod is stopped, or (when asked) an object it refers to changes.
    async fn pause(&mut self, wait: Duration, for_objects: bool) {
        let mut objects = self.pod.objects_changed.subscribe();
        let until = Instant::now() + wait;
        tokio::select! {
            // Time itself is the point: a back-off.
            () = sleep_until(until) => {}
            () = stop_requested(&mut self.stop) => {}
            _ = objects.changed(), if for_objects => {}
        }
    }

    async fn image(&self) -> Result<Image, NotStarted> {
        let reference = self.container.image.clone().unwrap_or_default();
        let store = self.pod.node.images.clone();
        let wanted = reference.clone();
        let found = tokio::task::spawn_blocking(move || store.get(&wanted)).await;
        let missing = |message: String| {
            if self.container.image_pull_policy.as_deref() == Some("Never") {
                let message = format!("Container image {reference:?} is not present with pull policy of Never");
                return NotStarted::Image { reason: "ErrImageNeverPull", message };
            }
            NotStarted::Image { reason: "ErrImagePull", message }
        };
        match found {
            Ok(Ok(Some(image))) => {
                let message = format!("Container image {reference:?} already present on machine");
                self.pod.normal(Some(&self.container.name), "Pulled", message);
                Ok(image)
            }
            Ok(Ok(None)) => Err(missing(format!(
                "image {reference:?} is not in the embedded cluster's image store, and its nodes have no network to pull from"
            ))),
            Ok(Err(error)) => Err(missing(error.to_string())),
            Err(error) => Err(missing(format!("image store failed: {error}"))),
        }
    }
}

/// `docker.io/perconalab/valkey@sha256:…`, as runtimes report it.
fn image_id(image: &Image) -> String {
    let name = image.reference.split('@').next().unwrap_or_default();
    let repository = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    };
    format!("{repository}@{}", image.digest)
}

async fn stop_requested(stop: &mut Stop) {
    // The sender lives as long as the pod's context, which the caller holds.
    let _ = stop.wait_for(Option::is_some).await;
}

/// Completes when the deadline (its own, or the pod's, which may move) has passed, but not before `least`.
async fn passed(stop: &mut Stop, own: Option<Instant>, least: Instant) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_id_is_the_repository_with_the_digest() {
        let image = |reference: &str| Image {
            reference: reference.to_owned(),
            digest: "sha256:ab".to_owned(),
            config: oci_spec::image::ImageConfiguration::default(),
            rootfs: PathBuf::new(),
        };
        assert_eq!(image_id(&image("docker.io/perconalab/valkey:9.0.3")), "docker.io/perconalab/valkey@sha256:ab");
        assert_eq!(image_id(&image("localhost:5000/v")), "localhost:5000/v@sha256:ab");
    }
}
