//! Why the chart or `helm` did not do what was asked. Whose fault each is differs: a missing program is the
//! environment's, a directory without a chart is the user's to retype, and the rest is the chart's.

use std::path::PathBuf;

use super::super::error::ReleaseError;

/// Why the chart or `helm` did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// There is no `helm` on PATH.
    #[error(
        "helm is not on PATH; a chart is deployed with helm 3.14 or newer: https://helm.sh/docs/intro/install"
    )]
    Missing,
    /// `helm` is older than what this suite needs.
    #[error("helm {found} at {} is too old: 3.14 or newer is needed", program.display())]
    TooOld {
        /// The program.
        program: PathBuf,
        /// Its version.
        found: String,
    },
    /// `helm` could not be run.
    #[error("helm at {} cannot be run", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file for `helm` could not be written.
    #[error("a file for helm cannot be written")]
    File(#[source] std::io::Error),
    /// The directory is not a chart.
    #[error("{} is not a chart directory: {why}", folder.display())]
    NotAChart {
        /// The directory.
        folder: PathBuf,
        /// What is missing.
        why: String,
    },
    /// `helm` refused. What it says is not changed.
    #[error("helm {verb} failed:\n{said}")]
    Refused {
        /// The subcommand.
        verb: String,
        /// Its error output.
        said: String,
    },
    /// What `helm template` printed is not YAML.
    #[error("what helm template printed is not YAML")]
    Output(#[source] serde_yaml::Error),
    /// What the chart renders is not something that can be deployed.
    #[error("the chart renders something that cannot be deployed")]
    Manifests(#[source] Box<ReleaseError>),
}

impl ChartError {
    /// Whether the machine is at fault, rather than the chart or what was typed.
    pub fn is_environment(&self) -> bool {
        matches!(
            self,
            Self::Missing | Self::TooOld { .. } | Self::Run { .. } | Self::File(_)
        )
    }
}
