//! The chart's `values.yaml` as types, with the same names, nesting and defaults.
//!
//! - this file: [`Values`], the root, and facts that depend on several parameters;
//! - [`sections`]: the nested tables; [`probe`]: the three probes;
//! - [`parameters`]: every parameter with its kind and range, as data;
//! - [`input`]: files and `--set` merged over the defaults into `Values`;
//! - [`kind`], [`syntax`], [`combinations`]: rules for values, for texts, and for combinations;
//! - [`chart_values`]: the values of another chart, which may lack parameters and have others;
//! - [`secrets`]: values that may be secret;
//! - [`merge`], [`set`]: Helm's rules for both; [`validation`], [`error`]: all errors at once.

pub mod chart_values;
mod combinations;
mod error;
mod input;
mod kind;
mod merge;
mod parameters;
mod probe;
mod secrets;
mod sections;
mod set;
mod strict;
mod syntax;
mod validation;

use k8s_openapi::api::core::v1::{Affinity, PodSecurityContext, SecurityContext, Toleration};
use serde::{Deserialize, Serialize};

pub use chart_values::{ChartValues, beyond_readme};
pub use error::{ValueError, ValuesError};
pub use input::ValuesInput;
pub use kind::ValueKind;
pub use parameters::{PARAMETERS, Parameter};
pub use probe::Probe;
pub use secrets::{secrets_in, without_secrets};
pub use sections::{
    Auth, Cluster, Config, Image, Mode, Pdb, Persistence, Rbac, Resources, Service, ServiceAccount,
    Standalone, StatefulSetValues, Variant,
};
pub(crate) use syntax::is_label_value;

use crate::release::StringMap;
use sections::{container_security_context, pod_security_context};

/// Every parameter of the chart's README, plus our own `cluster.drainBeforeScaleDown`.
///
/// The serialised form is a values file for the real chart. Read values with [`ValuesInput`], which
/// applies Helm's merging rules and reports every error with its full path. Plain serde also
/// refuses unknown keys, but stops at the first error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Values {
    /// Overrides the chart's name in labels and in the full name.
    pub name_override: String,
    /// Overrides the full name of every object.
    pub fullname_override: String,
    /// One server, or a Valkey cluster.
    pub mode: Mode,
    /// The image that runs.
    pub image: Image,
    /// The password and its source.
    pub auth: Auth,
    /// The settings in `valkey.conf` and on the server's command line.
    pub config: Config,
    /// The shape of the cluster; read in cluster mode only.
    pub cluster: Cluster,
    /// The number of independent servers; read in standalone mode only.
    pub standalone: Standalone,
    /// The StatefulSet's strategies for updates and pod creation.
    pub statefulset: StatefulSetValues,
    /// Annotations of the servers' pods.
    pub pod_annotations: StringMap,
    /// Labels of the servers' pods, next to the chart's own.
    pub pod_labels: StringMap,
    /// The security context of every pod of the release.
    pub security_context: PodSecurityContext,
    /// The security context of the server in the rpm variant, and of every tool.
    pub container_security_context: SecurityContext,
    /// The client Service.
    pub service: Service,
    /// The volume of each server.
    pub persistence: Persistence,
    /// Restarts a server that no longer answers.
    pub liveness_probe: Probe,
    /// Decides which servers receive clients.
    pub readiness_probe: Probe,
    /// Holds the other two back until the server has started.
    pub startup_probe: Probe,
    /// CPU and memory of the server's container.
    pub resources: Resources,
    /// The ServiceAccount of every pod of the release.
    pub service_account: ServiceAccount,
    /// Kept because the README lists it; it affects no object.
    pub rbac: Rbac,
    /// The PodDisruptionBudget of cluster mode.
    pub pdb: Pdb,
    /// Nodes that the servers may run on.
    pub node_selector: StringMap,
    /// Taints that the servers tolerate.
    pub tolerations: Vec<Toleration>,
    /// Scheduling preferences of the servers.
    pub affinity: Affinity,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            name_override: String::new(),
            fullname_override: String::new(),
            mode: Mode::default(),
            image: Image::default(),
            auth: Auth::default(),
            config: Config::default(),
            cluster: Cluster::default(),
            standalone: Standalone::default(),
            statefulset: StatefulSetValues::default(),
            pod_annotations: StringMap::new(),
            pod_labels: StringMap::new(),
            security_context: pod_security_context(),
            container_security_context: container_security_context(),
            service: Service::default(),
            persistence: Persistence::default(),
            liveness_probe: Probe::liveness(),
            readiness_probe: Probe::readiness(),
            startup_probe: Probe::startup(),
            resources: Resources::default(),
            service_account: ServiceAccount::default(),
            rbac: Rbac::default(),
            pdb: Pdb::default(),
            node_selector: StringMap::new(),
            tolerations: Vec::new(),
            affinity: Affinity::default(),
        }
    }
}

impl Values {
    /// Returns the defaults for this mode and image variant, one of the four combinations.
    #[must_use]
    pub fn combination(mode: Mode, variant: Variant) -> Self {
        Self {
            mode,
            image: Image {
                variant,
                ..Image::default()
            },
            ..Self::default()
        }
    }

    /// Returns the number of servers in the current mode.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        match self.mode {
            Mode::Standalone => self.standalone.replicas,
            Mode::Cluster => self.cluster.replicas,
        }
    }

    /// Returns the cluster's number of primaries; left-over nodes become extra replicas.
    #[must_use]
    pub fn primaries(&self) -> u32 {
        self.cluster.replicas / (1 + self.cluster.replicas_per_primary)
    }

    /// Returns true if rendering needs a password from the caller. This is the case if a Secret is
    /// rendered and the values have no password.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        self.auth.enabled && self.auth.existing_secret.is_empty() && self.auth.password.is_empty()
    }

    /// Returns the problems of these values, parameter by parameter. The list is empty if they
    /// can be rendered.
    #[must_use]
    pub fn problems(&self) -> Vec<ValueError> {
        let tree = serde_json::to_value(self).expect("values are plain JSON");
        let problems = validation::problems(&tree);
        if problems.is_empty() {
            combinations::problems(self)
        } else {
            problems
        }
    }
}
