//! The k3s provider: a whole Kubernetes in one container, made and removed by the run.
//!
//! The provider uses testcontainers without the k3s of testcontainers-modules, which:
//! - is made for k3s 1.28,
//! - publishes ports on every interface that nobody needs,
//! - takes the kubeconfig from a host folder, which a remote engine does not have.

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
use images;
use wait::{self, Expectation, Verdict};

pub use engine::{Engine, K3sContainer, K3sError};

const PROVIDER: &str = "k3s";

/// Time until k3s must have written its kubeconfig. A laptop takes half a minute, a busy machine
/// more.
const START: Duration = Duration::from_secs(180);

/// Interval at which to look for the kubeconfig. Each look is a process in the container.
const INTERVAL: Duration = Duration::from_millis(500);

/// The k3s log, next to the report of a run with failures.
const LOG_FILE: &str = "k3s.log";

/// Options of a k3s cluster.
#[derive(Debug, Clone, Default)]
pub struct K3sOptions {
    /// The version; `None` takes [`KubeVersion::default_of_k3s`].
    pub kube_version: Option<KubeVersion>,
}

impl K3sOptions {
    /// Returns the version to start.
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
    /// Starts a container named after `run`, imports the run's images from `store`, and waits until
    /// the cluster is usable. Writes the kubeconfig into `folder`. The caller has checked `engine`.
    /// `tell` receives a message before a long step.
    ///
    /// # Errors
    /// See [`K3sError`]. A failed start leaves no container.
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
            tell(format!("pulling {}", image.reference()));
        }
        // From here on, an error or an interrupt drops `net`, which removes the container.
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

/// Returns the kubeconfig, which k3s writes once its API server serves.
async fn kubeconfig_of(container: &ContainerAsync<GenericImage>) -> Result<String, ClusterError> {
    let what = Expectation::new("k3s", "to have written its kubeconfig", START);
    let look = || async {
        match output(container, &container::READ_KUBECONFIG).await {
            Ok((Some(0), text)) => Verdict::Ready(text),
            Ok((_, said)) => Verdict::NotYet(said),
            // A container that has ended cannot run anything.
            Err(error) => match container.is_running().await {
                Ok(false) => Verdict::Never(format!(
                    "it ended; its last output was:\n{}",
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

/// Imports the images of the archive in the container, so that pods find them.
async fn import(container: &ContainerAsync<GenericImage>) -> Result<(), K3sError> {
    match output(container, &container::IMPORT_IMAGES).await? {
        (Some(0), _) => Ok(()),
        (_, said) if engine::is_disk_full(&said) => Err(K3sError::DiskFull { said }),
        (_, said) => Err(K3sError::Import { said }),
    }
}

/// Runs a command in the container to its end. Returns its exit code and its output.
async fn output(
    container: &ContainerAsync<GenericImage>,
    command: &[&str],
) -> Result<(Option<i64>, String), testcontainers::TestcontainersError> {
    let mut running = container.exec(ExecCommand::new(command.iter().copied())).await?;
    let printed = [running.stdout_to_vec().await?, running.stderr_to_vec().await?];
    let text = String::from_utf8_lossy(&printed.concat()).trim().to_owned();
    Ok((running.exit_code().await?, text))
}

/// Returns the end of the k3s log.
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
