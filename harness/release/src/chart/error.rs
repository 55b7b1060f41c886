//! Failures of the chart or of `helm`. The fault differs:
//! - a missing program is the environment's,
//! - a directory without a chart is the user's typing error,
//! - anything else is the chart's.

use std::path::PathBuf;

use super::super::error::ReleaseError;
use super::super::refusal::Refusal;

/// Failures of the chart or of `helm`.
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
    /// There is no chart at the path.
    #[error("{} is not a chart directory: {why}", path.display())]
    NotAChart {
        /// The path.
        path: PathBuf,
        /// The missing part.
        why: String,
    },
    /// `helm` refused. The message begins with its reason and ends with its whole output.
    #[error("helm {verb} failed: {}{}", Refusal::read(said).reason, whole(said))]
    Refused {
        /// The subcommand.
        verb: String,
        /// Its error output.
        said: String,
    },
    /// `helm` cannot read the given values.
    #[error("helm cannot read the given values: {said}")]
    Values {
        /// Its error output.
        said: String,
    },
    /// The chart's schema refuses README parameters that a trial depends on.
    #[error("the schema of the chart refuses {}", parameters.join(", "))]
    NotTaken {
        /// The parameters.
        parameters: Vec<String>,
    },
    /// The output of `helm template` is not YAML.
    #[error("the output of helm template is not YAML")]
    Output(#[source] serde_yaml::Error),
    /// The rendered objects cannot be deployed.
    #[error("the chart renders something that cannot be deployed")]
    Manifests(#[source] Box<ReleaseError>),
}

impl ChartError {
    /// Returns true if the environment is at fault, not the chart or the user's typing.
    pub fn is_environment(&self) -> bool {
        matches!(
            self,
            Self::Missing | Self::TooOld { .. } | Self::Run { .. } | Self::File(_)
        )
    }

    /// Returns true if the chart's `values.schema.json` refused values.
    pub fn is_of_the_schema(&self) -> bool {
        matches!(self, Self::Refused { said, .. } if said.contains("specifications of the schema"))
    }

    /// Returns the reason why a trial cannot be judged on this chart or cluster, if there is one.
    /// The conformance trial of a refused parameter reports the refusal.
    pub fn not_judged(&self) -> Option<String> {
        if let Self::NotTaken { parameters } = self {
            let parameters = parameters.join(", ");
            return Some(format!(
                "the chart does not accept {parameters} (see its conformance trial)"
            ));
        }
        if let Some(field) = self.not_supported() {
            return Some(format!(
                "the chart sets {field}, which this cluster does not support"
            ));
        }
        let what = self.not_served()?;
        Some(format!("the chart has {what}, which this cluster does not serve"))
    }

    /// Returns a rendered field that only this cluster refuses, if `helm` reports one. Kubernetes
    /// accepts such a field, so its chart cannot be judged here.
    fn not_supported(&self) -> Option<&str> {
        let Self::Refused { said, .. } = self else {
            return None;
        };
        let (_, rest) = said.split_once(NOT_SUPPORTED)?;
        let field = rest.split([' ', ',', '\n']).next()?;
        Some(field.trim_end_matches(']'))
    }

    /// Returns a rendered kind that the cluster does not serve, if `helm` reports one. Nothing of
    /// the chart can be judged on this cluster then. A misspelt kind of a served API is the chart's
    /// own fault.
    fn not_served(&self) -> Option<String> {
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

/// Returns helm's whole message, where it is more than its reason.
fn whole(said: &str) -> String {
    if said.trim().lines().count() <= 1 {
        return String::new();
    }
    format!("\n{said}")
}

/// The beginning of the embedded cluster's refusals, before the field's path.
const NOT_SUPPORTED: &str = "not supported by the embedded cluster: ";

/// Kubernetes' own kinds that a test cluster, such as the embedded one, need not serve.
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
