//! The k3s provider: a whole Kubernetes in one container, made for the run and gone with it, through testcontainers.
//!
//! testcontainers alone, without the k3s of testcontainers-modules: that one is made for k3s 1.28, publishes ports that
//! nobody needs on every interface, and takes the kubeconfig from a folder of the host, which an engine elsewhere has not.

mod container;
mod engine;
mod net;

use std::path::{Path, PathBuf};
use std::time::Duration;

use embedded_cluster::images::ImageStore;
use futures::future::BoxFuture;
use testcontainers::core::ExecCommand;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage};

use super::archive::Archive;
use super::versions::KubeVersion;
use super::{ChosenContext, Cluster, ClusterError, Facts, Kept, private_file, ready};
use crate::images;
use crate::wait::{self, Expectation, Verdict};

pub use engine::{Engine, K3sContainer, K3sError};

const PROVIDER: &str = "k3s";

/// How long k3s may take until it has written its kubeconfig: half a minute on a laptop, more on a busy machine.
const START: Duration = Duration::from_secs(180);

/// How often to look for it. Each look is a process in the container.
const INTERVAL: Duration = Duration::from_millis(500);

/// Its log, beside the report of a run with failures.
const LOG_FILE: &str = "k3s.log";

/// How to have a k3s cluster.
#[derive(Debug, Clone, Default)]
pub struct K3sOptions {
    /// The version; `None` takes [`KubeVersion::default_of_k3s`].
    pub kube_version: Option<KubeVersion>,
}

impl K3sOptions {
    /// The version that is meant.
    pub fn version(&self) -> KubeVersion {
        self.kube_version
            .clone()
            .unwrap_or_else(KubeVersion::default_of_k3s)
    }
}

/// A cluster that runs in one container.
pub struct K3sProvider {
    container: ContainerAsync<GenericImage>,
    name: String,
    kubeconfig_file: PathBuf,
    facts: Facts,
}

impl K3sProvider {
    /// Starts a container named after `run`, imports the run's images, already in `store`, and waits until the cluster is
    /// of use. Its kubeconfig is kept in `folder`. `engine` has been checked; `tell` hears what takes long.
    ///
    /// # Errors
    /// See [`K3sError`]; what was made is removed again.
    pub async fn start(
        engine: &Engine,
        options: &K3sOptions,
        run: &str,
        folder: &Path,
        store: &ImageStore,
        images: Vec<images::Provenance>,
        tell: impl Fn(String),
    ) -> Result<Self, ClusterError> {
        let archive = Archive::of(store, &images).await?;
        let image = container::Image::of(&options.version());
        if !engine.has(&image.reference()).await.map_err(failed)? {
            tell(format!("{} is pulled now", image.reference()));
        }
        // Whoever gives up from here on, by an error or because the run was interrupted, leaves no container.
        let net = net::Net::under(run);
        let request = container::request(&image, run, &archive.path(), engine.reach());
        let container = request
            .start()
            .await
            .map_err(|error| failed(engine::meaning(&image.reference(), error)))?;
        let provider = Self::prepare(container, run, folder, images).await;
        if provider.is_ok() {
            net.discard();
        }
        provider
    }

    async fn prepare(
        container: ContainerAsync<GenericImage>,
        run: &str,
        folder: &Path,
        images: Vec<images::Provenance>,
    ) -> Result<Self, ClusterError> {
        let written = kubeconfig_of(&container).await?;
        let host = container.get_host().await.map_err(|error| failed(error.into()))?;
        let port = container
            .get_host_port_ipv4(container::API_PORT)
            .await
            .map_err(|error| failed(error.into()))?;
        let kubeconfig = container::kubeconfig(&written, &host.to_string(), port, run).map_err(failed)?;
        let context = ChosenContext::in_kubeconfig(run, kubeconfig)
            .await
            .map_err(|error| other(error.into()))?;
        let client = context.client()?;
        ready::wait_until_usable(&client)
            .await
            .map_err(|error| other(error.into()))?;
        import(&container).await.map_err(failed)?;
        let version = client
            .apiserver_version()
            .await
            .map_err(|error| other(error.into()))?
            .git_version;
        let facts = Facts::of_made(PROVIDER, client, context.kubeconfig().clone(), version, images)
            .await
            .map_err(|error| other(error.into()))?;
        let text = serde_yaml::to_string(&facts.kubeconfig).map_err(|error| other(error.into()))?;
        let kubeconfig_file = folder.join(format!("{run}.kubeconfig"));
        private_file::write(&kubeconfig_file, &text).map_err(|error| other(error.into()))?;
        Ok(Self {
            container,
            name: run.to_owned(),
            kubeconfig_file,
            facts,
        })
    }
}

/// The kubeconfig that k3s writes when its API server serves.
async fn kubeconfig_of(container: &ContainerAsync<GenericImage>) -> Result<String, ClusterError> {
    let what = Expectation::new("k3s", "to have written its kubeconfig", START);
    let look = || async {
        match output(container, &container::READ_KUBECONFIG).await {
            Ok((Some(0), text)) => Verdict::Ready(text),
            Ok((_, said)) => Verdict::NotYet(said),
            // Nothing can be run in a container that has ended.
            Err(error) => match container.is_running().await {
                Ok(false) => Verdict::Never(format!(
                    "it has ended; its last words were:\n{}",
                    last_words(container).await
                )),
                _ => Verdict::NotYet(error.to_string()),
            },
        }
    };
    wait::poll(what, INTERVAL, look)
        .await
        .map_err(|error| other(error.into()))
}

/// Puts the images of the archive, which the container has been given, where pods find them.
async fn import(container: &ContainerAsync<GenericImage>) -> Result<(), K3sError> {
    match output(container, &container::IMPORT_IMAGES).await? {
        (Some(0), _) => Ok(()),
        (_, said) if engine::is_disk_full(&said) => Err(K3sError::DiskFull { said }),
        (_, said) => Err(K3sError::Import { said }),
    }
}

/// Runs a command in the container to its end: its exit code, and what it printed.
async fn output(
    container: &ContainerAsync<GenericImage>,
    command: &[&str],
) -> Result<(Option<i64>, String), testcontainers::TestcontainersError> {
    let mut running = container.exec(ExecCommand::new(command.iter().copied())).await?;
    let printed = [running.stdout_to_vec().await?, running.stderr_to_vec().await?];
    let text = String::from_utf8_lossy(&printed.concat()).trim().to_owned();
    Ok((running.exit_code().await?, text))
}

/// The end of what k3s logged.
async fn last_words(container: &ContainerAsync<GenericImage>) -> String {
    const LINES: usize = 12;
    let logged = container.stderr_to_vec().await.unwrap_or_default();
    let text = String::from_utf8_lossy(&logged);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn failed(source: K3sError) -> ClusterError {
    other(source.into())
}

fn other(source: Box<dyn std::error::Error + Send + Sync>) -> ClusterError {
    ClusterError::Start {
        provider: PROVIDER,
        source,
    }
}

fn ended(action: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClusterError {
    ClusterError::End {
        provider: PROVIDER,
        action,
        source: source.into(),
    }
}

impl Cluster for K3sProvider {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn save_logs<'a>(&'a self, folder: &'a Path) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            let log = self.container.stderr_to_vec().await;
            let log = log.map_err(|error| ended("asked for its log", error))?;
            std::fs::write(folder.join(LOG_FILE), log).map_err(|error| ended("asked for its log", error))
        })
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), ClusterError>> {
        Box::pin(async move {
            let removed = self.container.rm().await;
            removed.map_err(|error| ended("removed", error))?;
            std::fs::remove_file(&self.kubeconfig_file).map_err(|error| ended("removed", error))
        })
    }

    fn keep(self: Box<Self>) -> BoxFuture<'static, Result<Kept, ClusterError>> {
        let kept = Kept {
            reach: format!(
                "kubectl --kubeconfig {} get pods -A",
                self.kubeconfig_file.display()
            ),
            remove: format!("docker rm --force --volumes {}", self.name),
        };
        // Dropping it would remove the container.
        std::mem::forget(self.container);
        Box::pin(std::future::ready(Ok(kept)))
    }
}
