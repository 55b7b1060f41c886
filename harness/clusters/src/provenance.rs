//! The cluster of a run, as the report describes it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of the cluster, and the origin of its images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// The provider's name.
    pub provider: String,
    /// The Kubernetes version that the API server reports.
    pub kubernetes: String,
    /// Number of nodes that take pods.
    pub nodes: usize,
    /// The kernel that everything ran on.
    pub kernel: String,
    /// Number of processors that were available.
    pub processors: usize,
    /// The images under test.
    pub images: Vec<images::Provenance>,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            provider,
            kubernetes,
            nodes,
            kernel,
            processors,
            ..
        } = self;
        write!(
            f,
            "{provider}, Kubernetes {kubernetes}, {nodes} node(s), Linux {kernel}, {processors} processors"
        )
    }
}

impl Provenance {
    /// Returns the provenance of a cluster on the machine that this process runs on.
    pub fn of_this_machine(
        provider: &str,
        kubernetes: String,
        nodes: usize,
        images: Vec<images::Provenance>,
    ) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        Self {
            provider: provider.to_owned(),
            kubernetes,
            nodes,
            kernel: kernel.map_or_else(|_| "unknown".to_owned(), |kernel| kernel.trim().to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            images,
        }
    }
}
