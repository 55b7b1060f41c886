//! One container of a pod, through all its instances: image, configuration, start, hooks, the end, back-off.

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
use super::board::{Kill, Role, Running, State};
use super::configuration::{Configuration, configure};
use super::waiting::{IMAGE_RETRY, IMAGE_RETRY_MAX, image_id};
use crate::images::Image;
use crate::node::helper::protocol::StartContainer;
use crate::node::launcher::{LaunchError, Stdio3};
use crate::node::logs::ContainerLog;
use crate::node::reaper::Exit;

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
pub(super) enum NotStarted {
    Image { reason: &'static str, message: String },
    Configuration(String),
    Runtime(String),
}

/// A running instance and what its end needs.
pub(super) struct Instance {
    pub(super) running: Running,
    pub(super) ending: Ending,
    pub(super) log: ContainerLog,
    pub(super) kills: mpsc::Receiver<Kill>,
    pub(super) configuration: Configuration,
    pub(super) message_file: PathBuf,
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
        let io = |error: io::Error| NotStarted::Runtime(format!("failed to prepare the container: {error}"));
        fs::create_dir_all(&directory).map_err(io)?;
        let message_file = directory.join("termination-log");
        fs::write(&message_file, "").map_err(io)?;
        fs::set_permissions(&message_file, fs::Permissions::from_mode(0o666)).map_err(io)?;
        let configuration = configure(&self.pod, &self.container, &image, &message_file)
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
            since: Instant::now(),
            kill,
        };
        let ending = self.pod.node.executor.reaper.subscribe(pid);
        self.record_running(&image, &running, &log, number);
        Ok(Instance {
            running,
            ending,
            log,
            kills,
            configuration,
            message_file,
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
        let io = |error: io::Error| NotStarted::Runtime(format!("failed to prepare the container: {error}"));
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
            uid: configuration.uid,
            memory_limit: configuration.memory_limit,
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
                self.clean_up(id, directory);
                let text = match error {
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
}
