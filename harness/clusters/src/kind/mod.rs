//! The kind provider: a cluster in containers, made and removed by the run. `kind` and `docker` do
//! the work; each of their failures has its own [`KindError`].

mod tool;

use std::path::{Path, PathBuf};

use embedded_cluster::images::ImageStore;
use futures::future::BoxFuture;
use kube::config::Kubeconfig;

use super::archive::Archive;
use super::versions::KubeVersion;
use super::{ChosenContext, Cluster, ClusterError, Facts, Kept, private_file, ready};
use images;

pub use tool::{KindError, Tools};

const PROVIDER: &str = "kind";

/// Options of a kind cluster.
#[derive(Debug, Clone)]
pub struct KindOptions {
    /// The configuration of kind; see `kind-config/`.
    pub config: PathBuf,
    /// The version, which selects the node image. `None` takes kind's default.
    pub kube_version: Option<KubeVersion>,
    /// Name of an existing cluster to use and to leave running.
    pub reuse: Option<String>,
    /// The programs.
    pub tools: Tools,
}

/// A cluster that runs in containers.
pub struct KindProvider {
    name: String,
    /// True if the cluster stays when the run ends.
    borrowed: bool,
    tools: Tools,
    kubeconfig_file: PathBuf,
    facts: Facts,
}

impl KindProvider {
    /// Creates a cluster named after `run`, or takes the one to reuse. Waits until it is usable,
    /// and loads the run's images from `store`. Writes the kubeconfig into `folder`; the user's own
    /// stays as it is.
    ///
    /// # Errors
    /// See [`KindError`]. A failed start leaves no cluster.
    pub async fn start(
        options: KindOptions,
        run: &str,
        folder: &Path,
        store: &ImageStore,
        images: Vec<images::Provenance>,
    ) -> Result<Self, ClusterError> {
        let tools = options.tools.clone();
        tools.check().await.map_err(failed)?;
        if let Some(version) = &options.kube_version {
            tools.check_version(version).await.map_err(failed)?;
        }
        let name = options.reuse.clone().unwrap_or_else(|| run.to_owned());
        let known = tools.clusters().await.map_err(failed)?;
        match (known.contains(&name), &options.reuse) {
            (true, None) => return Err(failed(KindError::Exists { name })),
            (false, Some(_)) => return Err(failed(KindError::Absent { name, known })),
            _ => {}
        }
        let file = folder.join(format!("{name}.kubeconfig"));
        let borrowed = options.reuse.is_some();
        // From here on, an error or an interrupt drops `net`, which removes the cluster.
        let net = (!borrowed).then(|| tools.net(&name, &file));
        let started = async {
            if borrowed {
                let text = tools
                    .run("kind", &["get", "kubeconfig", "--name", &name])
                    .await
                    .map_err(failed)?;
                private_file::write(&file, &text).map_err(|source| {
                    failed(KindError::File {
                        path: file.clone(),
                        source,
                    })
                })?;
            } else {
                create(&options, &name, &file).await.map_err(failed)?;
            }
            Self::prepare(&tools, &name, &file, store, images).await
        };
        let facts = started.await?;
        if let Some(net) = net {
            net.discard();
        }
        Ok(Self {
            name,
            borrowed,
            tools,
            kubeconfig_file: file,
            facts,
        })
    }

    async fn prepare(
        tools: &Tools,
        name: &str,
        file: &Path,
        store: &ImageStore,
        images: Vec<images::Provenance>,
    ) -> Result<Facts, ClusterError> {
        let other = |source: Box<dyn std::error::Error + Send + Sync>| ClusterError::Start {
            provider: PROVIDER,
            source,
        };
        let kubeconfig = Kubeconfig::read_from(file).map_err(|error| other(error.into()))?;
        let context = ChosenContext::in_kubeconfig(&format!("kind-{name}"), kubeconfig)
            .await
            .map_err(|error| other(error.into()))?;
        let version = context.version().await?;
        let client = context.client()?;
        ready::wait_until_usable(&client)
            .await
            .map_err(|error| other(error.into()))?;
        load(tools, name, store, &images).await?;
        let facts = Facts::of_made(PROVIDER, client, context.kubeconfig().clone(), version, images);
        facts.await.map_err(|error| other(error.into()))
    }
}

/// Runs `kind create cluster` with a separate kubeconfig.
async fn create(options: &KindOptions, name: &str, file: &Path) -> Result<(), KindError> {
    let image = options.kube_version.as_ref().map(KubeVersion::node_image);
    let (config, file) = (text(&options.config)?, text(file)?);
    let mut arguments = vec![
        "create",
        "cluster",
        "--name",
        name,
        "--config",
        config,
        "--kubeconfig",
        file,
        "--wait",
        "180s",
    ];
    if let Some(image) = &image {
        arguments.extend(["--image", image]);
    }
    options.tools.run("kind", &arguments).await.map(drop)
}

/// Loads the images into every node, from one archive.
async fn load(
    tools: &Tools,
    name: &str,
    store: &ImageStore,
    images: &[images::Provenance],
) -> Result<(), ClusterError> {
    let archive = Archive::of(store, images).await?;
    let path = archive.path();
    let path = text(&path).map_err(failed)?;
    tools
        .run("kind", &["load", "image-archive", path, "--name", name])
        .await
        .map(drop)
        .map_err(failed)
}

async fn delete(tools: &Tools, name: &str, file: &Path) -> Result<(), KindError> {
    let kubeconfig = text(file)?;
    tools
        .run(
            "kind",
            &["delete", "cluster", "--name", name, "--kubeconfig", kubeconfig],
        )
        .await?;
    match std::fs::remove_file(file) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(KindError::File {
            path: file.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Returns a path as an argument.
fn text(path: &Path) -> Result<&str, KindError> {
    path.to_str().ok_or_else(|| KindError::File {
        path: path.to_owned(),
        source: std::io::Error::other("its name is not UTF-8"),
    })
}

fn failed(source: KindError) -> ClusterError {
    ClusterError::Start {
        provider: PROVIDER,
        source: source.into(),
    }
}

impl Cluster for KindProvider {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn save_logs<'a>(&'a self, folder: &'a Path) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            let ended = |source: KindError| ClusterError::End {
                provider: PROVIDER,
                action: "asked for its logs",
                source: source.into(),
            };
            let folder = folder.join("kind-logs");
            let folder = text(&folder).map_err(ended)?;
            let arguments = ["export", "logs", folder, "--name", &self.name];
            self.tools.run("kind", &arguments).await.map(drop).map_err(ended)
        })
    }

    fn outlives_run(&self) -> bool {
        self.borrowed
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), ClusterError>> {
        Box::pin(async move {
            if self.borrowed {
                return Ok(());
            }
            delete(&self.tools, &self.name, &self.kubeconfig_file)
                .await
                .map_err(|source| ClusterError::End {
                    provider: PROVIDER,
                    action: "deleted",
                    source: source.into(),
                })
        })
    }

    fn keep(self: Box<Self>) -> BoxFuture<'static, Result<Kept, ClusterError>> {
        let kept = Kept {
            reach: format!(
                "kubectl --kubeconfig {} get pods -A",
                self.kubeconfig_file.display()
            ),
            remove: format!("kind delete cluster --name {}", self.name),
        };
        Box::pin(std::future::ready(Ok(kept)))
    }
}
