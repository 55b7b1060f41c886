//! Where a run takes place: the [`Cluster`] trait, its providers, what each can do and where it came from.
//!
//! | module | what is in it |
//! |---|---|
//! | [`embedded`] | the single-process Kubernetes of this project |
//! | [`port_forward`] | reaching Valkey through the Kubernetes API |
//!
//! Every provider hands out a `kube::Client`; nothing above this module knows which provider it has.

pub mod embedded;
pub mod port_forward;
mod provenance;

use futures::future::BoxFuture;
use kube::Client;
use kube::config::Kubeconfig;

pub use embedded::{EmbeddedOptions, EmbeddedProvider};
pub use port_forward::PortForward;
pub use provenance::Provenance;

/// A Kubernetes cluster that trials run on.
pub trait Cluster: Send + Sync {
    /// A client with the rights of an administrator.
    fn client(&self) -> Client;

    /// What `kubectl` needs to reach the cluster.
    fn kubeconfig(&self) -> Kubeconfig;

    /// What the cluster can do.
    fn capabilities(&self) -> &Capabilities;

    /// What the cluster is and where its images came from.
    fn provenance(&self) -> &Provenance;

    /// What the cluster itself has logged, where this process can read it.
    fn log(&self) -> Option<String>;

    /// Takes the cluster down, if this run brought it up, and returns when nothing is left of it.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), ClusterError>>;

    /// Leaves the cluster running, and says how to reach it and how to get rid of it.
    fn keep(self: Box<Self>) -> BoxFuture<'static, Result<Kept, ClusterError>>;
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
