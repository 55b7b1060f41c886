//! Every parameter of the chart's README as data: its path and what it may be.
//!
//! Validation walks this table, so a parameter that is not here is a misspelt one; a test holds the table, the
//! types and the chart's defaults together.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::kind::Kind;

/// One row: a dotted path in `values.yaml` and the kind of value it takes.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// The dotted path, as in the README.
    pub path: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Whether the README's tables list it. The others are `values.yaml`'s own or ours.
    pub in_readme: bool,
}

/// Ports that can be listened on.
const PORT: Kind = Kind::Integer { min: 1, max: 65_535 };
/// User and group IDs of Linux; the last one means "none".
const USER_ID: Kind = Kind::Integer {
    min: 0,
    max: 4_294_967_294,
};
/// A Valkey cluster is designed for up to 1000 nodes (cluster specification, "main properties").
const NODES: Kind = Kind::Integer { min: 1, max: 1000 };
/// One day: beyond it a probe's number is a mistake, not a wish.
const SECONDS: Kind = Kind::Integer { min: 1, max: 86_400 };
const DELAY: Kind = Kind::Integer { min: 0, max: 86_400 };
const THRESHOLD: Kind = Kind::Integer { min: 1, max: 100_000 };

const fn documented(path: &'static str, kind: Kind) -> Parameter {
    Parameter {
        path,
        kind,
        in_readme: true,
    }
}

const fn undocumented(path: &'static str, kind: Kind) -> Parameter {
    Parameter {
        path,
        kind,
        in_readme: false,
    }
}

/// The table, in the README's order.
pub const PARAMETERS: &[Parameter] = &[
    documented("nameOverride", Kind::NamePart),
    documented("fullnameOverride", Kind::NamePart),
    documented("mode", Kind::Word(&["standalone", "cluster"])),
    documented("image.repository", Kind::ImageRepository),
    documented("image.variant", Kind::Word(&["rpm", "hardened"])),
    documented("image.tag", Kind::ImageTag),
    documented(
        "image.pullPolicy",
        Kind::Word(&["Always", "IfNotPresent", "Never"]),
    ),
    documented("image.pullSecrets", Kind::PullSecrets),
    documented("auth.enabled", Kind::Boolean),
    documented("auth.password", Kind::Password),
    documented("auth.existingSecret", Kind::ObjectName),
    documented("config.maxmemory", Kind::ValkeyMemory),
    documented(
        "config.maxmemoryPolicy",
        Kind::OptionalWord(&[
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
    documented("config.bind", Kind::Addresses),
    documented("config.extraFlags", Kind::Flags),
    documented("config.customConfig", Kind::Text),
    documented("cluster.replicas", NODES),
    documented("cluster.replicasPerPrimary", Kind::Integer { min: 0, max: 999 }),
    // Below 100 ms a node takes ordinary scheduling delays for death; one day is Valkey's own order of magnitude.
    documented(
        "cluster.nodeTimeout",
        Kind::Integer {
            min: 100,
            max: 86_400_000,
        },
    ),
    documented("cluster.busPort", PORT),
    undocumented("cluster.drainBeforeScaleDown", Kind::Boolean),
    documented("standalone.replicas", NODES),
    undocumented("statefulset.updateStrategy", Kind::UpdateStrategy),
    documented(
        "statefulset.updateStrategy.type",
        Kind::Word(&["RollingUpdate", "OnDelete"]),
    ),
    documented(
        "statefulset.podManagementPolicy",
        Kind::OptionalWord(&["OrderedReady", "Parallel"]),
    ),
    documented("statefulset.annotations", Kind::Annotations),
    documented("statefulset.labels", Kind::Labels),
    documented("podAnnotations", Kind::Annotations),
    documented("podLabels", Kind::Labels),
    undocumented("securityContext", Kind::PodSecurityContext),
    documented("securityContext.runAsUser", USER_ID),
    documented("securityContext.runAsGroup", USER_ID),
    documented("securityContext.fsGroup", USER_ID),
    documented("securityContext.runAsNonRoot", Kind::Boolean),
    undocumented("containerSecurityContext", Kind::ContainerSecurityContext),
    documented("containerSecurityContext.readOnlyRootFilesystem", Kind::Boolean),
    documented("containerSecurityContext.allowPrivilegeEscalation", Kind::Boolean),
    undocumented("containerSecurityContext.capabilities", Kind::Capabilities),
    documented(
        "containerSecurityContext.capabilities.drop",
        Kind::CapabilityNames,
    ),
    documented(
        "service.type",
        Kind::Word(&["ClusterIP", "NodePort", "LoadBalancer"]),
    ),
    documented("service.port", PORT),
    documented("service.annotations", Kind::Annotations),
    documented("persistence.enabled", Kind::Boolean),
    documented("persistence.storageClass", Kind::ObjectName),
    documented("persistence.accessModes", Kind::AccessModes),
    documented("persistence.size", Kind::Quantity),
    documented("persistence.annotations", Kind::Annotations),
    documented("livenessProbe.enabled", Kind::Boolean),
    documented("livenessProbe.initialDelaySeconds", DELAY),
    documented("livenessProbe.periodSeconds", SECONDS),
    documented("livenessProbe.timeoutSeconds", SECONDS),
    documented("livenessProbe.failureThreshold", THRESHOLD),
    // The API server allows no other success threshold for liveness and startup.
    undocumented("livenessProbe.successThreshold", Kind::Integer { min: 1, max: 1 }),
    documented("readinessProbe.enabled", Kind::Boolean),
    documented("readinessProbe.initialDelaySeconds", DELAY),
    documented("readinessProbe.periodSeconds", SECONDS),
    documented("readinessProbe.timeoutSeconds", SECONDS),
    documented("readinessProbe.failureThreshold", THRESHOLD),
    undocumented("readinessProbe.successThreshold", THRESHOLD),
    documented("startupProbe.enabled", Kind::Boolean),
    documented("startupProbe.initialDelaySeconds", DELAY),
    documented("startupProbe.periodSeconds", SECONDS),
    documented("startupProbe.timeoutSeconds", SECONDS),
    documented("startupProbe.failureThreshold", THRESHOLD),
    undocumented("startupProbe.successThreshold", Kind::Integer { min: 1, max: 1 }),
    documented("resources.limits", Kind::Quantities),
    documented("resources.requests", Kind::Quantities),
    documented("serviceAccount.create", Kind::Boolean),
    documented("serviceAccount.name", Kind::ObjectName),
    documented("serviceAccount.annotations", Kind::Annotations),
    documented("rbac.create", Kind::Boolean),
    documented("pdb.enabled", Kind::Boolean),
    documented("pdb.minAvailable", Kind::OptionalCountOrPercent),
    documented("pdb.maxUnavailable", Kind::OptionalCountOrPercent),
    documented("nodeSelector", Kind::Labels),
    documented("tolerations", Kind::Tolerations),
    documented("affinity", Kind::Affinity),
];

/// The rows by path: values are checked at every rendering.
static BY_PATH: LazyLock<HashMap<&str, &Parameter>> = LazyLock::new(|| {
    PARAMETERS
        .iter()
        .map(|parameter| (parameter.path, parameter))
        .collect()
});

/// Every path below which parameters lie.
static SECTIONS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let prefixes = |path: &'static str| path.match_indices('.').map(|(end, _)| &path[..end]);
    PARAMETERS
        .iter()
        .flat_map(|parameter| prefixes(parameter.path))
        .chain([""])
        .collect()
});

/// The row of a path.
pub(super) fn find(path: &str) -> Option<&'static Parameter> {
    BY_PATH.get(path).copied()
}

/// Whether parameters lie below this path.
pub(super) fn is_section(path: &str) -> bool {
    SECTIONS.contains(path)
}

/// The keys that may stand directly below a path, each once, in the table's order.
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
