//! The nested tables of `values.yaml`, with the chart's defaults.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::apps::v1::StatefulSetUpdateStrategy;
use k8s_openapi::api::core::v1::{Capabilities, LocalObjectReference, PodSecurityContext, SecurityContext};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use crate::release::StringMap;

/// The user and group of Valkey in both images.
const VALKEY_ID: i64 = 999;

/// Deployment mode. The chart takes any unknown word for `standalone`; here it is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Independent servers, one by default.
    #[default]
    Standalone,
    /// A Valkey cluster.
    Cluster,
}

impl Mode {
    /// Both modes, in the README's order.
    pub const ALL: [Self; 2] = [Self::Standalone, Self::Cluster];

    /// Returns the word in `values.yaml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Cluster => "cluster",
        }
    }
}

/// Image variant. The chart takes any unknown word for `rpm`; here it is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// UBI9, with a shell.
    #[default]
    Rpm,
    /// Distroless: no shell, read-only root.
    Hardened,
}

impl Variant {
    /// Both variants, in the README's order.
    pub const ALL: [Self; 2] = [Self::Rpm, Self::Hardened];

    /// Returns the word in `values.yaml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rpm => "rpm",
            Self::Hardened => "hardened",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `image`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Image {
    /// Repository of both variants.
    pub repository: String,
    /// Variant of the server's image; tools always run the rpm one.
    pub variant: Variant,
    /// Tag of the server's image, verbatim; empty means the chart's own version.
    pub tag: String,
    /// `imagePullPolicy` of every container.
    pub pull_policy: String,
    /// `imagePullSecrets` of every pod.
    pub pull_secrets: Vec<LocalObjectReference>,
}

/// `auth`. `Debug` hides the password.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Auth {
    /// True if a password is required.
    pub enabled: bool,
    /// The password; empty means the one in the existing Secret, or else a generated one.
    pub password: String,
    /// The user's own Secret with the password.
    pub existing_secret: String,
}

/// `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// `maxmemory`, with Valkey's units (`256mb`).
    pub maxmemory: String,
    /// `maxmemory-policy`.
    pub maxmemory_policy: String,
    /// `bind`: addresses separated by spaces.
    pub bind: String,
    /// Flags put in front of `VALKEY_EXTRA_FLAGS`.
    pub extra_flags: String,
    /// Text appended to `valkey.conf`.
    pub custom_config: String,
}

/// `cluster`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cluster {
    /// All nodes, primaries and replicas.
    pub replicas: u32,
    /// Replicas of each primary.
    pub replicas_per_primary: u32,
    /// `cluster-node-timeout` in milliseconds.
    pub node_timeout: u32,
    /// Port of the cluster bus.
    pub bus_port: u16,
    /// Not in the chart: a `pre-upgrade` Job of ours moves the slots off departing primaries first.
    pub drain_before_scale_down: bool,
}

/// `standalone`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Standalone {
    /// The number of independent servers; nothing replicates between them.
    pub replicas: u32,
}

/// `statefulset`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StatefulSetValues {
    /// The whole of `spec.updateStrategy`.
    pub update_strategy: StatefulSetUpdateStrategy,
    /// `spec.podManagementPolicy`; empty means `Parallel` for a cluster and `OrderedReady`
    /// otherwise.
    pub pod_management_policy: String,
    /// Annotations of the StatefulSet itself.
    pub annotations: StringMap,
    /// Labels of the servers' pods, after `podLabels`.
    pub labels: StringMap,
}

/// `service`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Service {
    /// Type of the client Service.
    pub r#type: String,
    /// Port of the client Service; the servers always listen on 6379.
    pub port: u16,
    /// Annotations of the client Service.
    pub annotations: StringMap,
}

/// `persistence`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Persistence {
    /// True for a claim for each pod; otherwise each pod has an `emptyDir`.
    pub enabled: bool,
    /// Storage class; empty means the default one.
    pub storage_class: String,
    /// Access modes of the claim.
    pub access_modes: Vec<String>,
    /// Requested size.
    pub size: String,
    /// Annotations of the claim.
    pub annotations: StringMap,
}

/// `resources`, of the server's container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// Limits by resource name.
    pub limits: BTreeMap<String, Quantity>,
    /// Requests by resource name.
    pub requests: BTreeMap<String, Quantity>,
}

/// `serviceAccount`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceAccount {
    /// True if the release has its own ServiceAccount.
    pub create: bool,
    /// The name of the release's ServiceAccount, or of an existing one.
    pub name: String,
    /// Annotations of the release's ServiceAccount.
    pub annotations: StringMap,
}

/// `rbac`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rbac {
    /// Unused: the README and `values.yaml` list it, but the chart has no RBAC objects.
    pub create: bool,
}

/// `pdb`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pdb {
    /// True if there is a budget, in cluster mode.
    pub enabled: bool,
    /// Replaces `maxUnavailable` if set (neither empty nor 0).
    pub min_available: IntOrString,
    /// Used when `minAvailable` is unset.
    pub max_unavailable: IntOrString,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            repository: "perconalab/valkey".to_owned(),
            variant: Variant::default(),
            tag: String::new(),
            pull_policy: "IfNotPresent".to_owned(),
            pull_secrets: Vec::new(),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            enabled: true,
            password: String::new(),
            existing_secret: String::new(),
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = if self.password.is_empty() {
            ""
        } else {
            "(redacted)"
        };
        f.debug_struct("Auth")
            .field("enabled", &self.enabled)
            .field("password", &password)
            .field("existing_secret", &self.existing_secret)
            .finish()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            maxmemory: String::new(),
            maxmemory_policy: String::new(),
            bind: "0.0.0.0".to_owned(),
            extra_flags: String::new(),
            custom_config: String::new(),
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            replicas: 6,
            replicas_per_primary: 1,
            node_timeout: 15_000,
            bus_port: 16_379,
            drain_before_scale_down: true,
        }
    }
}

impl Default for Standalone {
    fn default() -> Self {
        Self { replicas: 1 }
    }
}

impl Default for StatefulSetValues {
    fn default() -> Self {
        let update_strategy = StatefulSetUpdateStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: None,
        };
        Self {
            update_strategy,
            pod_management_policy: String::new(),
            annotations: StringMap::new(),
            labels: StringMap::new(),
        }
    }
}

impl Default for Service {
    fn default() -> Self {
        Self {
            r#type: "ClusterIP".to_owned(),
            port: 6379,
            annotations: StringMap::new(),
        }
    }
}

impl Default for Persistence {
    fn default() -> Self {
        Self {
            enabled: true,
            storage_class: String::new(),
            access_modes: vec!["ReadWriteOnce".to_owned()],
            size: "8Gi".to_owned(),
            annotations: StringMap::new(),
        }
    }
}

impl Default for ServiceAccount {
    fn default() -> Self {
        Self {
            create: true,
            name: String::new(),
            annotations: StringMap::new(),
        }
    }
}

impl Default for Rbac {
    fn default() -> Self {
        Self { create: true }
    }
}

impl Default for Pdb {
    fn default() -> Self {
        Self {
            enabled: true,
            min_available: IntOrString::String(String::new()),
            max_unavailable: IntOrString::Int(1),
        }
    }
}

/// Returns the chart's default `securityContext`.
pub(super) fn pod_security_context() -> PodSecurityContext {
    PodSecurityContext {
        run_as_user: Some(VALKEY_ID),
        run_as_group: Some(VALKEY_ID),
        fs_group: Some(VALKEY_ID),
        run_as_non_root: Some(true),
        ..PodSecurityContext::default()
    }
}

/// Returns the chart's default `containerSecurityContext`.
pub(super) fn container_security_context() -> SecurityContext {
    SecurityContext {
        read_only_root_filesystem: Some(false),
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

impl Pdb {
    /// Returns Helm's truthiness: neither empty nor 0.
    #[must_use]
    pub fn min_available_is_set(&self) -> bool {
        match &self.min_available {
            IntOrString::Int(number) => *number != 0,
            IntOrString::String(text) => !text.is_empty(),
        }
    }
}
