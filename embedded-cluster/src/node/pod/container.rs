//! One container of a pod, through all its instances: image, configuration, start, hooks, end,
//! back-off.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::PodContext;
use super::backoff::Backoff;
use super::configuration::{Configuration, configure};
use super::container_records::{Kill, Role, RunState, Running};
use super::waiting::{IMAGE_RETRY, IMAGE_RETRY_MAX, image_id};
use crate::images::Image;
use crate::node::helper::cgroup;
use crate::node::helper::protocol::StartContainer;
use crate::node::launcher::{LaunchError, Stdio3};
use crate::node::logs::ContainerLog;
use crate::node::reaper::Exit;

type Ending = tokio::sync::oneshot::Receiver<Exit>;

/// The deadline by which the container must be gone; `None` while it may run.
pub(super) type Stop = watch::Receiver<Option<Instant>>;

/// The task that runs one container until it will not run again.
pub(super) struct ContainerTask {
    pub(super) pod: Arc<PodContext>,
    pub(super) container: Container,
    pub(super) role: Role,
    pub(super) stop: Stop,
}

/// The reasons why an instance did not start.
pub(super) enum NotStarted {
    Image { reason: &'static str, message: String },
    Configuration(String),
    Runtime(String),
}

/// A running instance, and the state needed to end it.
pub(super) struct Instance {
    pub(super) running: Running,
    pub(super) ending: Ending,
    pub(super) log: ContainerLog,
    pub(super) kills: mpsc::Receiver<Kill>,
    pub(super) configuration: Configuration,
    pub(super) message_file: PathBuf,
    pub(super) image: Image,
    /// Number of earlier instances.
    pub(super) number: i32,
    /// True if a probe had the instance killed.
    pub(super) killed_by_probe: bool,
}

impl ContainerTask {
    /// Runs instances until the restart policy or the end of the pod stops them.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut image_retry = IMAGE_RETRY;
        let mut number = 0;
        while !self.stopping() {
            let mut killed_by_probe = false;
            let ended = match self.start(number).await {
                Ok(mut instance) => {
                    image_retry = IMAGE_RETRY;
                    let ended = self.see_through(&mut instance).await;
                    killed_by_probe = instance.killed_by_probe;
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
            let at = Instant::now();
            self.pod.records.update(&self.container.name, |record| {
                if record.starting.take().is_some() {
                    record.restarts = number - 1;
                    if let RunState::Terminated(before) = &record.state {
                        record.last = Some(before.clone());
                    }
                }
                record.state = RunState::Terminated(ended);
                record.startup = self.container.startup_probe.as_ref().map(|_| false);
                record.readiness = self.container.readiness_probe.as_ref().map(|_| false);
            });
            self.pod.synced();
            if self.stopping() || !self.restarts(exit_code) {
                return;
            }
            while let Some(wait) = backoff.holds(at, Instant::now())
                && !self.stopping()
            {
                self.back_off(wait).await;
            }
            backoff.restarts(at, Instant::now(), killed_by_probe);
        }
    }

    fn stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    fn restarts(&self, exit_code: i32) -> bool {
        match (self.role, self.pod.restart_policy().as_str()) {
            (Role::Sidecar, _) => true,
            (_, "Never") => false,
            (Role::Main, "Always") => true,
            (Role::Init | Role::Main, _) => exit_code != 0,
        }
    }

    async fn start(&mut self, number: i32) -> Result<Instance, NotStarted> {
        let image = self.image().await?;
        let directory = self
            .pod
            .dir
            .join("containers")
            .join(&self.container.name)
            .join(number.to_string());
        let io = |error: io::Error| self.not_prepared(&error);
        fs::create_dir_all(&directory).map_err(io)?;
        let message_file = directory.join("termination-log");
        fs::write(&message_file, "").map_err(io)?;
        fs::set_permissions(&message_file, fs::Permissions::from_mode(0o666)).map_err(io)?;
        let configuration = configure(&self.pod, &self.container, &image, &directory, &message_file)
            .await
            .map_err(NotStarted::Configuration)?;
        configuration
            .spec
            .save(directory.join("config.json"))
            .map_err(|error| io(io::Error::other(error)))?;
        self.pod.normal(
            Some(&self.container.name),
            "Created",
            format!("Created container: {}", self.container.name),
        );
        let id = format!(
            "{}{}",
            uuid::Uuid::new_v4().simple(),
            uuid::Uuid::new_v4().simple()
        );
        let (pid, log) = self
            .launch(&id, &directory, &image, &configuration, number)
            .await?;
        self.pod.normal(
            Some(&self.container.name),
            "Started",
            format!("Started container {}", self.container.name),
        );
        let (kill, kills) = mpsc::channel(1);
        let running = Running {
            id,
            pid,
            bundle: directory,
            started_at: Timestamp::now(),
            kill,
        };
        let ending = self.pod.node.executor.reaper.subscribe(pid);
        self.record_starting(&running, &log);
        Ok(Instance {
            running,
            ending,
            log,
            kills,
            configuration,
            message_file,
            image,
            number,
            killed_by_probe: false,
        })
    }

    async fn launch(
        &self,
        id: &str,
        directory: &std::path::Path,
        image: &Image,
        configuration: &Configuration,
        number: i32,
    ) -> Result<(i32, ContainerLog), NotStarted> {
        let io = |error: io::Error| self.not_prepared(&error);
        let (stdout, stdout_end) = io::pipe().map_err(io)?;
        let (stderr, stderr_end) = io::pipe().map_err(io)?;
        let logs = self.pod.dir.join("logs");
        fs::create_dir_all(&logs).map_err(io)?;
        let path = logs.join(format!("{}-{number}.log", self.container.name));
        let log = ContainerLog::record(path, stdout.into(), stderr.into())
            .await
            .map_err(io)?;
        let null = fs::OpenOptions::new().read(true).open("/dev/null").map_err(io)?;
        let start = StartContainer {
            container: id.to_owned(),
            bundle: directory.to_owned(),
            state: self.pod.node.state_dir.join("run"),
            image_rootfs: image.rootfs.clone(),
            sub_paths: configuration.sub_paths.clone(),
            uid: configuration.uid,
            memory_limit: configuration.memory_limit.map(|limit| (self.group(id), limit)),
            image_volumes: configuration.image_volumes.clone(),
        };
        let stdio = Stdio3 {
            stdin: null.into(),
            stdout: stdout_end.into(),
            stderr: stderr_end.into(),
        };
        match self
            .pod
            .node
            .executor
            .launcher
            .start_container(start, stdio)
            .await
        {
            Ok(pid) => Ok((pid, log)),
            Err(error) => {
                let oom = configuration.memory_limit.is_some() && self.group(id).was_out_of_memory();
                self.clean_up(id, directory);
                let text = match error {
                    _ if oom => "failed to create containerd task: container init was OOM-killed (memory limit too low?)"
                        .to_owned(),
                    LaunchError::Program(text) => {
                        format!(
                            "OCI runtime create failed: unable to start container process: error during container init: {text}"
                        )
                    }
                    other => format!("failed to start container: {other}"),
                };
                Err(NotStarted::Runtime(text))
            }
        }
    }

    fn not_prepared(&self, error: &io::Error) -> NotStarted {
        let text = format!("failed to prepare the container: {error}");
        self.pod.node.health.notice("preparing a container", &text);
        NotStarted::Runtime(text)
    }

    /// Returns the cgroup of an instance with a memory limit.
    pub(super) fn group(&self, id: &str) -> cgroup::Group {
        cgroup::Group::new(&self.pod.node.cgroups, id)
    }

    /// Records that the instance exists. A postStart hook must finish before it counts as running.
    fn record_starting(&self, running: &Running, log: &ContainerLog) {
        let old = self.pod.records.update(&self.container.name, |record| {
            record.starting = Some(running.clone());
            let previous = record.log.replace(log.clone());
            std::mem::replace(&mut record.previous_log, previous)
        });
        if let Some(old) = old {
            tokio::spawn(async move { old.remove().await });
        }
    }

    /// Records that the instance runs, for the API and for probes.
    pub(super) fn record_running(&self, instance: &Instance) {
        self.pod.records.update(&self.container.name, |record| {
            record.image.clone_from(&instance.image.reference);
            record.image_id = image_id(&instance.image);
            if let RunState::Terminated(ended) = &record.state {
                record.last = Some(ended.clone());
            }
            record.starting = None;
            record.state = RunState::Running(instance.running.clone());
            record.restarts = instance.number;
            record.startup = self.container.startup_probe.as_ref().map(|_| false);
            record.readiness = self.container.readiness_probe.as_ref().map(|_| false);
        });
        self.pod.synced();
    }
}
