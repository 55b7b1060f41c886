//! Every parameter of the chart's README as data: its path and its kind.
//!
//! Validation walks this table and treats any other parameter as misspelt. A test keeps the table,
//! the types and the chart's defaults consistent.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::kind::ValueKind;

/// A row: a dotted path in `values.yaml` and the kind of its value.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// The dotted path, as in the README.
    pub path: &'static str,
    /// The kind of its value.
    pub kind: ValueKind,
    /// True if the README's tables list it. The others are `values.yaml`'s own or ours.
    pub in_readme: bool,
}

/// Valid ports.
const PORT: ValueKind = ValueKind::Integer { min: 1, max: 65_535 };
/// User and group IDs of Linux; the highest ID means "none".
const USER_ID: ValueKind = ValueKind::Integer {
    min: 0,
    max: 4_294_967_294,
};
/// A Valkey cluster is designed for up to 1000 nodes (cluster specification, "main properties").
const NODES: ValueKind = ValueKind::Integer { min: 1, max: 1000 };
/// At most one day: a probe with a longer time is certainly a mistake.
const SECONDS: ValueKind = ValueKind::Integer { min: 1, max: 86_400 };
const DELAY: ValueKind = ValueKind::Integer { min: 0, max: 86_400 };
const THRESHOLD: ValueKind = ValueKind::Integer { min: 1, max: 100_000 };

const fn documented(path: &'static str, kind: ValueKind) -> Parameter {
    Parameter {
        path,
        kind,
        in_readme: true,
    }
}

const fn undocumented(path: &'static str, kind: ValueKind) -> Parameter {
    Parameter {
        path,
        kind,
        in_readme: false,
    }
}

/// The table, in the README's order.
pub const PARAMETERS: &[Parameter] = &[
    documented("nameOverride", ValueKind::NamePart),
    documented("fullnameOverride", ValueKind::NamePart),
    documented("mode", ValueKind::Word(&["standalone", "cluster"])),
    documented("image.repository", ValueKind::ImageRepository),
    documented("image.variant", ValueKind::Word(&["rpm", "hardened"])),
    documented("image.tag", ValueKind::ImageTag),
    documented(
        "image.pullPolicy",
        ValueKind::Word(&["Always", "IfNotPresent", "Never"]),
    ),
    documented("image.pullSecrets", ValueKind::PullSecrets),
    documented("auth.enabled", ValueKind::Boolean),
    documented("auth.password", ValueKind::Password),
    documented("auth.existingSecret", ValueKind::ObjectName),
    documented("config.maxmemory", ValueKind::ValkeyMemory),
    documented(
        "config.maxmemoryPolicy",
        ValueKind::OptionalWord(&[
            "noeviction",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
        ]),
    ),
    documented("config.bind", ValueKind::Addresses),
    documented("config.extraFlags", ValueKind::Flags),
    documented("config.customConfig", ValueKind::Text),
    documented("cluster.replicas", NODES),
    documented(
        "cluster.replicasPerPrimary",
        ValueKind::Integer { min: 0, max: 999 },
    ),
    // Below 100 ms a node takes ordinary scheduling delays for failures. One day is the order of
    // magnitude that Valkey allows.
    documented(
        "cluster.nodeTimeout",
        ValueKind::Integer {
            min: 100,
            max: 86_400_000,
        },
    ),
    documented("cluster.busPort", PORT),
    undocumented("cluster.drainBeforeScaleDown", ValueKind::Boolean),
    documented("standalone.replicas", NODES),
    undocumented("statefulset.updateStrategy", ValueKind::UpdateStrategy),
    documented(
        "statefulset.updateStrategy.type",
        ValueKind::Word(&["RollingUpdate", "OnDelete"]),
    ),
    documented(
        "statefulset.podManagementPolicy",
        ValueKind::OptionalWord(&["OrderedReady", "Parallel"]),
    ),
    documented("statefulset.annotations", ValueKind::Annotations),
    documented("statefulset.labels", ValueKind::Labels),
    documented("podAnnotations", ValueKind::Annotations),
    documented("podLabels", ValueKind::Labels),
    undocumented("securityContext", ValueKind::PodSecurityContext),
    documented("securityContext.runAsUser", USER_ID),
    documented("securityContext.runAsGroup", USER_ID),
    documented("securityContext.fsGroup", USER_ID),
    documented("securityContext.runAsNonRoot", ValueKind::Boolean),
    undocumented("containerSecurityContext", ValueKind::ContainerSecurityContext),
    documented(
        "containerSecurityContext.readOnlyRootFilesystem",
        ValueKind::Boolean,
    ),
    documented(
        "containerSecurityContext.allowPrivilegeEscalation",
        ValueKind::Boolean,
    ),
    undocumented("containerSecurityContext.capabilities", ValueKind::Capabilities),
    documented(
        "containerSecurityContext.capabilities.drop",
        ValueKind::CapabilityNames,
    ),
    documented(
        "service.type",
        ValueKind::Word(&["ClusterIP", "NodePort", "LoadBalancer"]),
    ),
    documented("service.port", PORT),
    documented("service.annotations", ValueKind::Annotations),
    documented("persistence.enabled", ValueKind::Boolean),
    documented("persistence.storageClass", ValueKind::ObjectName),
    documented("persistence.accessModes", ValueKind::AccessModes),
    documented("persistence.size", ValueKind::Quantity),
    documented("persistence.annotations", ValueKind::Annotations),
    documented("livenessProbe.enabled", ValueKind::Boolean),
    documented("livenessProbe.initialDelaySeconds", DELAY),
    documented("livenessProbe.periodSeconds", SECONDS),
    documented("livenessProbe.timeoutSeconds", SECONDS),
    documented("livenessProbe.failureThreshold", THRESHOLD),
    // The API server allows no other success threshold for liveness and startup probes.
    undocumented(
        "livenessProbe.successThreshold",
        ValueKind::Integer { min: 1, max: 1 },
    ),
    documented("readinessProbe.enabled", ValueKind::Boolean),
    documented("readinessProbe.initialDelaySeconds", DELAY),
    documented("readinessProbe.periodSeconds", SECONDS),
    documented("readinessProbe.timeoutSeconds", SECONDS),
    documented("readinessProbe.failureThreshold", THRESHOLD),
    undocumented("readinessProbe.successThreshold", THRESHOLD),
    documented("startupProbe.enabled", ValueKind::Boolean),
    documented("startupProbe.initialDelaySeconds", DELAY),
    documented("startupProbe.periodSeconds", SECONDS),
    documented("startupProbe.timeoutSeconds", SECONDS),
    documented("startupProbe.failureThreshold", THRESHOLD),
    undocumented(
        "startupProbe.successThreshold",
        ValueKind::Integer { min: 1, max: 1 },
    ),
    documented("resources.limits", ValueKind::Quantities),
    documented("resources.requests", ValueKind::Quantities),
    documented("serviceAccount.create", ValueKind::Boolean),
    documented("serviceAccount.name", ValueKind::ObjectName),
    documented("serviceAccount.annotations", ValueKind::Annotations),
    documented("rbac.create", ValueKind::Boolean),
    documented("pdb.enabled", ValueKind::Boolean),
    documented("pdb.minAvailable", ValueKind::OptionalCountOrPercent),
    documented("pdb.maxUnavailable", ValueKind::OptionalCountOrPercent),
    documented("nodeSelector", ValueKind::Labels),
    documented("tolerations", ValueKind::Tolerations),
    documented("affinity", ValueKind::Affinity),
];

/// The rows by path, as every rendering looks up values.
static BY_PATH: LazyLock<HashMap<&str, &Parameter>> = LazyLock::new(|| {
    PARAMETERS
        .iter()
        .map(|parameter| (parameter.path, parameter))
        .collect()
});

/// Every path with parameters below it.
static SECTIONS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let prefixes = |path: &'static str| path.match_indices('.').map(|(end, _)| &path[..end]);
    PARAMETERS
        .iter()
        .flat_map(|parameter| prefixes(parameter.path))
        .chain([""])
        .collect()
});

/// Returns the row of a path.
pub(super) fn find(path: &str) -> Option<&'static Parameter> {
    BY_PATH.get(path).copied()
}

/// Returns true if parameters lie below this path.
pub(super) fn is_section(path: &str) -> bool {
    SECTIONS.contains(path)
}

/// Returns the distinct keys directly below a path, in the table's order.
pub(super) fn keys_below(path: &str) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for parameter in PARAMETERS {
        if let Some(rest) = below(parameter.path, path) {
            let key = rest.split('.').next().expect("split yields at least one part");
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

fn below<'a>(path: &'a str, section: &str) -> Option<&'a str> {
    if section.is_empty() {
        Some(path)
    } else {
        path.strip_prefix(section)?.strip_prefix('.')
    }
}
