//! Placement of a run's trials on a cluster that somebody else operates. A placement changes
//! nothing that a promise covers. It determines:
//!
//! - the names and the Pod Security level of the namespaces
//! - the values that pods need to find storage, nodes and images

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{LocalObjectReference, SeccompProfile};
use manifests::Values;

/// The default prefix of namespaces.
pub const NAMESPACE_PREFIX: &str = "vk";

/// The site's demands on the trials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The start of the name of every namespace.
    pub namespace_prefix: String,
    /// The level that the API server enforces in every namespace.
    pub pod_security: PodSecurity,
    /// The storage class of the claims; `None` selects the cluster's default.
    pub storage_class: Option<String>,
    /// Labels of the nodes that the servers may run on.
    pub node_selector: BTreeMap<String, String>,
    /// The Secret for pulling the images, copied into every namespace.
    pub image_pull_secret: Option<PullSecret>,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            namespace_prefix: NAMESPACE_PREFIX.to_owned(),
            pod_security: PodSecurity::default(),
            storage_class: None,
            node_selector: BTreeMap::new(),
            image_pull_secret: None,
        }
    }
}

/// A Secret that already exists on the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullSecret {
    /// The namespace that holds it.
    pub namespace: String,
    /// Its name, there and in the trials' namespaces.
    pub name: String,
}

/// A level of the Pod Security Standards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PodSecurity {
    /// The level of hardened workloads. Both variants meet it once the pods name the container
    /// runtime's seccomp profile. The chart's defaults omit only this field, so it is added to the
    /// values.
    #[default]
    Restricted,
    /// The level that the chart's unchanged defaults meet.
    Baseline,
    /// No restrictions.
    Privileged,
}

impl PodSecurity {
    /// Its name in Kubernetes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restricted => "restricted",
            Self::Baseline => "baseline",
            Self::Privileged => "privileged",
        }
    }

    /// The labels that make Kubernetes enforce the level on a namespace's pods.
    pub fn labels(self) -> [(String, String); 2] {
        [
            (
                "pod-security.kubernetes.io/enforce".to_owned(),
                self.as_str().to_owned(),
            ),
            (
                "pod-security.kubernetes.io/enforce-version".to_owned(),
                "latest".to_owned(),
            ),
        ]
    }
}

impl fmt::Display for PodSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Placement {
    /// Adds the site's demands to chart values.
    pub fn apply(&self, values: &mut Values) {
        if self.pod_security == PodSecurity::Restricted {
            let profile = &mut values.security_context.seccomp_profile;
            profile.get_or_insert_with(|| SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            });
        }
        if let Some(class) = &self.storage_class {
            values.persistence.storage_class.clone_from(class);
        }
        values.node_selector.extend(
            self.node_selector
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        if let Some(secret) = &self.image_pull_secret {
            values.image.pull_secrets.push(LocalObjectReference {
                name: secret.name.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privileged_placement_without_requests_changes_nothing() {
        let placement = Placement {
            pod_security: PodSecurity::Privileged,
            ..Placement::default()
        };
        let mut values = Values::default();
        placement.apply(&mut values);
        assert_eq!(values, Values::default());
    }

    #[test]
    fn what_a_site_asks_for_is_in_the_values() {
        let placement = Placement {
            storage_class: Some("fast".to_owned()),
            node_selector: BTreeMap::from([("pool".to_owned(), "valkey".to_owned())]),
            image_pull_secret: Some(PullSecret {
                namespace: "ci".to_owned(),
                name: "registry".to_owned(),
            }),
            ..Placement::default()
        };
        let mut values = Values::default();
        placement.apply(&mut values);
        assert_eq!(values.persistence.storage_class, "fast");
        assert_eq!(values.node_selector["pool"], "valkey");
        assert_eq!(values.image.pull_secrets[0].name, "registry");
        let profile = values
            .security_context
            .seccomp_profile
            .as_ref()
            .expect("restricted asks for one");
        assert_eq!(profile.type_, "RuntimeDefault");
        assert!(values.problems().is_empty(), "the chart takes all of it");
    }
}
