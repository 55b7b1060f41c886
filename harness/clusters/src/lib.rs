//! The cluster of a run: the [`Cluster`] trait, its providers, their capabilities and their
//! provenance.
//!
//! | module | what is in it |
//! |---|---|
//! | [`embedded`] | the single-process Kubernetes of this project |
//! | [`kubeconfig`] | any Kubernetes that a kubeconfig leads to |
//! | [`kind`] | Kubernetes in containers, made for the run |
//! | [`k3s`] | Kubernetes in one container, made for the run |
//! | [`versions`] | the Kubernetes versions that these two can start, and their images |
//! | [`namespaces`] | deleting exactly one namespace, and never its successor |
//! | [`sweep`] | what a run that was killed left behind |
//! | [`preflight`] | the permissions of a run, checked before it changes anything |
//! | [`survey`] | the capabilities of a cluster that somebody else made |
//! | [`client`] | a client that bridges restarts of the API server |
//! | [`port_forward`] | reaching Valkey through the Kubernetes API |
//!
//! Every provider returns a `kube::Client`. Nothing above this module knows the provider.

mod archive;
pub mod client;
pub mod embedded;
pub mod k3s;
pub mod kind;
pub mod kubeconfig;
pub mod namespaces;
pub mod port_forward;
pub mod preflight;
mod private_file;
mod provenance;
mod proxy;
mod ready;
mod room;
pub mod survey;
pub mod sweep;
pub mod versions;

use std::collections::BTreeMap;
use std::path::Path;

use futures::future::BoxFuture;
use kube::Client;
use kube::config::{Kubeconfig, KubeconfigError};

pub use embedded::{EmbeddedOptions, EmbeddedProvider};
pub use k3s::{K3sError, K3sOptions, K3sProvider};
pub use kind::{KindError, KindOptions, KindProvider};
pub use kubeconfig::{ChosenContext, KubeconfigOptions, KubeconfigProvider};
pub use port_forward::PortForward;
pub use provenance::Provenance;
pub use room::Room;
use survey::Survey;
pub use versions::KubeVersion;

/// A Kubernetes cluster that trials run on.
pub trait Cluster: Send + Sync {
    /// Returns access to the cluster, and its identity.
    fn facts(&self) -> &Facts;

    /// Writes the cluster's logs below `folder`, as far as this process can read them.
    fn save_logs<'a>(&'a self, _folder: &'a Path) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Completes with the reason when the cluster has died by itself. Observations after that say
    /// nothing about the deployment. A cluster that somebody else runs is not watched.
    fn died(&self) -> BoxFuture<'static, String> {
        Box::pin(std::future::pending())
    }

    /// Returns true if the cluster outlives the run. The run then removes the objects that it made.
    fn outlives_run(&self) -> bool {
        false
    }

    /// Takes the cluster down, if this run started it. Returns when nothing is left of it.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), ClusterError>>;

    /// Leaves the cluster running. Returns how to reach it and how to remove it.
    fn keep(self: Box<Self>) -> BoxFuture<'static, Result<Kept, ClusterError>>;
}

/// Access to a cluster, and its identity.
#[derive(Clone)]
pub struct Facts {
    /// A client with the rights of an administrator.
    pub client: Client,
    /// The kubeconfig of the cluster.
    pub kubeconfig: Kubeconfig,
    /// The capabilities of the cluster.
    pub capabilities: Capabilities,
    /// The kind of the cluster, and the origin of its images.
    pub provenance: Provenance,
}

impl Facts {
    /// Returns the facts of a cluster that was made for the run and given these images.
    async fn of_made(
        provider: &str,
        client: Client,
        kubeconfig: Kubeconfig,
        version: String,
        images: Vec<images::Provenance>,
    ) -> Result<Self, kube::Error> {
        let survey = Survey::take(&client, None, &BTreeMap::new()).await?;
        let mut provenance = survey.provenance(provider, version);
        provenance.images = images;
        Ok(Self {
            client,
            kubeconfig,
            capabilities: survey.capabilities(),
            provenance,
        })
    }
}

/// The capabilities of a cluster. A scenario declares its requirements, and is skipped with a
/// reason where one is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The reason why no volume can be made for a claim, if there is one.
    pub no_storage: Option<String>,
    /// Room that is free for trials, on a cluster that is shared or has limits.
    pub room: Option<Room>,
}

/// A cluster that was left running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Command that gives access to it.
    pub reach: String,
    /// Command that removes it.
    pub remove: String,
}

/// Reasons why there is no cluster to run on. Each is the environment's fault, never the chart's.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The operating system does not let this user make namespaces.
    #[error("{detail}\n{WAYS_OUT}")]
    NotPermitted {
        /// The problem.
        detail: String,
    },
    /// The API server does not know the user.
    #[error(
        "the API server at {server} refused the credentials of context {context} (401 {said}): log in again, or choose \
         another context"
    )]
    Unauthorized {
        /// The context.
        context: String,
        /// The API server.
        server: String,
        /// Its own words.
        said: String,
    },
    /// A proxy is between this machine and the API server.
    #[error(
        "the API server at {server} of context {context} needs the proxy {proxy}, and this program supports no \
         proxies: add the server to NO_PROXY, or run where no proxy is needed"
    )]
    Proxy {
        /// The context.
        context: String,
        /// The API server.
        server: String,
        /// The proxy.
        proxy: String,
    },
    /// There is no kubeconfig, or it cannot be used.
    #[error("{origin} cannot be used")]
    Kubeconfig {
        /// The origin of the setting.
        origin: String,
        /// The cause.
        #[source]
        source: KubeconfigError,
    },
    /// The kubeconfig has no context of that name. The user mistyped it.
    #[error("{origin} has no context {context:?}; it has: {}", known.join(", "))]
    NoSuchContext {
        /// The context that was asked for.
        context: String,
        /// The kubeconfig.
        origin: String,
        /// The contexts that it has.
        known: Vec<String>,
    },
    /// The API server does not answer.
    #[error("context {context}: {server} does not answer")]
    Unreachable {
        /// The context.
        context: String,
        /// The API server's address.
        server: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The user may not do everything that a run does.
    #[error("context {context} lacks permissions, and nothing was changed; missing permissions:{missing}")]
    NotAllowed {
        /// The context.
        context: String,
        /// All missing permissions.
        missing: preflight::Missing,
    },
    /// The images are not available.
    #[error("the images of the chart are not available")]
    Images(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The cluster did not start.
    #[error("the {provider} cluster did not start")]
    Start {
        /// The provider.
        provider: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cluster could not be taken down or handed over.
    #[error("the {provider} cluster could not be {action}")]
    End {
        /// The provider.
        provider: &'static str,
        /// The action.
        action: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Advice for a user who may not make namespaces.
pub const WAYS_OUT: &str = "\
the embedded cluster needs Linux namespaces. Three ways out:
  1. run as root (or with sudo), inside a container with `--privileged`;
  2. allow user namespaces: `sysctl -w user.max_user_namespaces=15000`, and on Ubuntu 24.04 and later also
     `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`; the user also needs a range of IDs (package uidmap,
     `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`);
  3. run it on a Linux virtual machine or CI runner that allows one of these.";
