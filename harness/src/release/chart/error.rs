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

    /// What the chart renders and the cluster does not serve, if that is what `helm` stumbled over: then nothing of the
    /// chart can be judged on this cluster. A misspelt kind of an API that is served is the chart's own fault.
    pub fn not_served(&self) -> Option<String> {
        let Self::Refused { said, .. } = self else {
            return None;
        };
        // no matches for kind "NetworkPolicy" in version "networking.k8s.io/v1"
        let (_, rest) = said.split_once("no matches for kind \"")?;
        let (kind, rest) = rest.split_once("\" in version \"")?;
        let (version, _) = rest.split_once('"')?;
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let of_kubernetes = UNSERVED_KINDS.contains(&kind);
        let of_an_extension = group.contains('.') && !group.ends_with(".k8s.io");
        (of_kubernetes || of_an_extension).then(|| format!("{kind} of {version}"))
    }
}

/// Kinds of Kubernetes' own that a cluster for tests, such as the embedded one, need not have.
const UNSERVED_KINDS: [&str; 14] = [
    "Deployment",
    "ReplicaSet",
    "DaemonSet",
    "ReplicationController",
    "CronJob",
    "NetworkPolicy",
    "Ingress",
    "HorizontalPodAutoscaler",
    "LimitRange",
    "ResourceQuota",
    "PriorityClass",
    "CustomResourceDefinition",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("NetworkPolicy", "networking.k8s.io/v1", true)]
    #[case("Deployment", "apps/v1", true)]
    #[case("ServiceMonitor", "monitoring.coreos.com/v1", true)]
    #[case("StatefulSett", "apps/v1", false)]
    #[case("StatefulSet", "app/v1", false)]
    #[case("Servce", "v1", false)]
    fn what_a_cluster_does_not_serve_is_told_from_what_is_misspelt(
        #[case] kind: &str,
        #[case] version: &str,
        #[case] not_served: bool,
    ) {
        let said = format!(
            "Error: unable to build kubernetes objects from release manifest: resource mapping not found for name: \"vk\" \
             namespace: \"\" from \"\": no matches for kind \"{kind}\" in version \"{version}\"\nensure CRDs are installed first"
        );
        let verb = "upgrade".to_owned();
        let told = ChartError::Refused { verb, said }.not_served();
        assert_eq!(told, not_served.then(|| format!("{kind} of {version}")));
    }
}
