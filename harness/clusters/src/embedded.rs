//! The embedded provider: images into the store, then a cluster in this machine's own namespaces.

use std::path::{Path, PathBuf};

use embedded_cluster::delays::Delays;
use embedded_cluster::supervisor::{
    EmbeddedCluster, LastingCluster, LastingError, Options, StartError, Vital,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::{Capabilities, Cluster, ClusterError, Facts, Kept, Provenance};
use images;

const PROVIDER: &str = "embedded";

/// The cluster's log file, next to the report of a run with failures.
const LOG_FILE: &str = "cluster.log";

/// Options of an embedded cluster for a run.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The cluster's name. Concurrent clusters have different names.
    pub name: String,
    /// The folder of the image store, filled by the caller.
    pub image_store: PathBuf,
    /// Images in the store, for the report.
    pub images: Vec<images::Provenance>,
    /// The delay with which the cluster notices changes.
    pub delays: Delays,
    /// Where clusters that outlive their run keep their kubeconfig; `None` ties the cluster to this
    /// process.
    pub lasting: Option<PathBuf>,
}

/// A cluster that this run started.
pub struct EmbeddedProvider {
    life: Life,
    facts: Facts,
}

enum Life {
    Tied(EmbeddedCluster),
    Lasting {
        cluster: LastingCluster,
        name: String,
        vital: Vital,
    },
}

impl EmbeddedProvider {
    /// Starts a cluster and returns when its API answers.
    pub async fn start(options: EmbeddedOptions) -> Result<Self, ClusterError> {
        let mut how = Options::new(&options.name, &options.image_store);
        how.delays = options.delays;
        let (life, client, kubeconfig) = match &options.lasting {
            None => {
                let cluster = EmbeddedCluster::start(how).await.map_err(start_error)?;
                let (client, kubeconfig) = (cluster.client(), cluster.access().kubeconfig());
                (Life::Tied(cluster), client, kubeconfig)
            }
            Some(folder) => start_lasting(&options.name, folder, how).await?,
        };
        let version = client
            .apiserver_version()
            .await
            .map_err(|source| failed_start(source.into()))?;
        let provenance = Provenance::of_this_machine(PROVIDER, version.git_version, 1, options.images);
        let capabilities = Capabilities {
            no_storage: None,
            room: None,
        };
        let facts = Facts {
            client,
            kubeconfig,
            capabilities,
            provenance,
        };
        Ok(Self { life, facts })
    }
}

impl Cluster for EmbeddedProvider {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn save_logs<'a>(&'a self, folder: &'a Path) -> BoxFuture<'a, Result<(), ClusterError>> {
        let log = match &self.life {
            Life::Tied(cluster) => Ok(cluster.log()),
            Life::Lasting { cluster, .. } => std::fs::read_to_string(cluster.log()),
        };
        let written = log.and_then(|log| std::fs::write(folder.join(LOG_FILE), log));
        Box::pin(std::future::ready(
            written.map_err(|source| ended("asked for its log", source)),
        ))
    }

    fn died(&self) -> BoxFuture<'static, String> {
        match &self.life {
            Life::Tied(cluster) => cluster.died().map(|death| death.to_string()).boxed(),
            Life::Lasting { cluster, vital, .. } => {
                let (died, log) = (vital.died(), cluster.log());
                async move { format!("{}; its log is {}", died.await, log.display()) }.boxed()
            }
        }
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), ClusterError>> {
        Box::pin(async move {
            match self.life {
                Life::Tied(cluster) => cluster.stop().await,
                Life::Lasting { cluster, .. } => {
                    blocking(move || cluster.down())
                        .await
                        .map_err(|source| ended("taken down", source))?;
                }
            }
            Ok(())
        })
    }

    fn keep(self: Box<Self>) -> BoxFuture<'static, Result<Kept, ClusterError>> {
        Box::pin(async move {
            match self.life {
                Life::Lasting { cluster, name, .. } => Ok(Kept {
                    reach: format!(
                        "kubectl --kubeconfig {} get pods -A",
                        cluster.kubeconfig().display()
                    ),
                    remove: format!("{} cluster down --name {name}", settings::program()),
                }),
                Life::Tied(cluster) => {
                    cluster.stop().await;
                    Err(ended(
                        "kept",
                        "it was started for the length of this process".to_owned(),
                    ))
                }
            }
        })
    }
}

async fn start_lasting(
    name: &str,
    folder: &Path,
    how: Options,
) -> Result<(Life, Client, Kubeconfig), ClusterError> {
    let cluster = LastingCluster::named(name, folder);
    let starting = cluster.clone();
    let vital = blocking(move || starting.up(&how))
        .await
        .map_err(|error| match error {
            LastingError::Start(error) => start_error(error),
            other => failed_start(other.into()),
        })?;
    let kubeconfig =
        Kubeconfig::read_from(cluster.kubeconfig()).map_err(|source| failed_start(source.into()))?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default())
        .await
        .map_err(|source| failed_start(source.into()))?;
    // The proxy of HTTPS_PROXY cannot reach this machine's loopback.
    config.proxy_url = None;
    let client = Client::try_from(config).map_err(|source| failed_start(source.into()))?;
    Ok((
        Life::Lasting {
            cluster,
            name: name.to_owned(),
            vital,
        },
        client,
        kubeconfig,
    ))
}

/// Runs blocking work outside the async runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("starting and stopping a cluster does not panic")
}

/// Distinguishes missing permissions of the user from other failures.
pub fn start_error(error: StartError) -> ClusterError {
    match error {
        StartError::Permission { .. } => ClusterError::NotPermitted {
            detail: error.to_string(),
        },
        other => failed_start(other.into()),
    }
}

fn failed_start(source: Box<dyn std::error::Error + Send + Sync>) -> ClusterError {
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
