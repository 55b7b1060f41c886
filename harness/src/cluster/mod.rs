//! Where a run takes place: the [`Cluster`] trait, its providers, what each can do and where it came from.
//!
//! | module | what is in it |
//! |---|---|
//! | [`embedded`] | the single-process Kubernetes of this project |
//! | [`kubeconfig`] | any Kubernetes that a kubeconfig leads to |
//! | [`kind`] | Kubernetes in containers, made for the run |
//! | [`k3s`] | Kubernetes in one container, made for the run |
//! | [`versions`] | which Kubernetes versions these two can be, and their images |
//! | [`sweep`] | what a run that was killed left behind |
//! | [`preflight`] | what a run needs to be allowed, asked before anything is touched |
//! | [`survey`] | what a cluster that somebody else made has to offer |
//! | [`client`] | a client that outlives restarts of the API server |
//! | [`port_forward`] | reaching Valkey through the Kubernetes API |
//!
//! Every provider hands out a `kube::Client`; nothing above this module knows which provider it has.

mod archive;
pub mod client;
pub mod embedded;
pub mod k3s;
pub mod kind;
pub mod kubeconfig;
pub mod port_forward;
pub mod preflight;
mod private_file;
mod provenance;
mod ready;
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
use survey::Survey;
pub use versions::KubeVersion;

use crate::images;

/// A Kubernetes cluster that trials run on.
pub trait Cluster: Send + Sync {
    /// How to reach the cluster, and what it is.
    fn facts(&self) -> &Facts;

    /// Writes what the cluster itself has logged below `folder`, where this process can read it.
    fn save_logs<'a>(&'a self, _folder: &'a Path) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Takes the cluster down, if this run brought it up, and returns when nothing is left of it.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), ClusterError>>;

    /// Leaves the cluster running, and says how to reach it and how to get rid of it.
    fn keep(self: Box<Self>) -> BoxFuture<'static, Result<Kept, ClusterError>>;
}

/// How to reach a cluster, and what it is.
#[derive(Clone)]
pub struct Facts {
    /// A client with the rights of an administrator.
    pub client: Client,
    /// What `kubectl` needs to reach the cluster.
    pub kubeconfig: Kubeconfig,
    /// What the cluster can do.
    pub capabilities: Capabilities,
    /// What the cluster is and where its images came from.
    pub provenance: Provenance,
}

impl Facts {
    /// Those of a cluster that was made for the run and given these images.
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
            capabilities: survey.capabilities(provenance.images.iter().all(|image| !image.stand_in)),
            provenance,
        })
    }
}

/// What a cluster can do. A scenario declares what it needs; what is not there is skipped, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// How many nodes take pods.
    pub nodes: usize,
    /// Pods can be cut off from each other.
    pub network_faults: bool,
    /// The images are the published ones, not stand-ins.
    pub real_images: bool,
    /// Why no volume can be made for a claim, if that is so.
    pub no_storage: Option<String>,
}

/// A cluster that was left running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// How to reach it.
    pub reach: String,
    /// How to get rid of it.
    pub remove: String,
}

/// Why there is no cluster to run on. Each of these is the environment's fault, never the chart's.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The operating system does not let this user make namespaces.
    #[error("{detail}\n{WAYS_OUT}")]
    NotPermitted {
        /// What was refused.
        detail: String,
    },
    /// There is no kubeconfig, or it cannot be used.
    #[error("{whence} cannot be used")]
    Kubeconfig {
        /// Which one.
        whence: String,
        /// The cause.
        #[source]
        source: KubeconfigError,
    },
    /// The kubeconfig has no context of that name: the user's to retype.
    #[error("{whence} has no context {context:?}; it has: {}", known.join(", "))]
    NoSuchContext {
        /// What was asked for.
        context: String,
        /// The kubeconfig.
        whence: String,
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
    #[error("context {context} lacks permissions, and nothing was touched; missing are:{missing}")]
    NotAllowed {
        /// The context.
        context: String,
        /// All of them.
        missing: preflight::Missing,
    },
    /// The images could not be had.
    #[error("the images of the chart cannot be had")]
    Images(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The cluster did not start.
    #[error("the {provider} cluster did not start")]
    Start {
        /// Which provider.
        provider: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cluster could not be taken down or handed over.
    #[error("the {provider} cluster could not be {action}")]
    End {
        /// Which provider.
        provider: &'static str,
        /// What was attempted.
        action: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a person can do who may not make namespaces.
pub const WAYS_OUT: &str = "\
the embedded cluster needs Linux namespaces. Three ways out:
  1. run as root (or with sudo), inside a container with `--privileged`;
  2. allow user namespaces: `sysctl -w user.max_user_namespaces=15000`, and on Ubuntu 24.04 and later also
     `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`; the user also needs a range of IDs (package uidmap,
     `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`);
  3. run it on a Linux virtual machine or CI runner that allows one of these.";
