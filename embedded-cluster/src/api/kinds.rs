//! The table of served kinds. Routes, discovery and storage follow from it.
//!
//! A resource that is not in [`KINDS`] is a 404, as with an API server that does not have it. In
//! particular DaemonSets and CronJobs are not served.

use k8s_openapi::api::{
    apps::v1 as apps, batch::v1 as batch, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, events::v1 as events, policy::v1 as policy, rbac::v1 as rbac,
    scheduling::v1 as scheduling, storage::v1 as storage,
};
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use super::authorize::Caller;
use super::behaviour::Behaviour;
use super::reviews;
use super::server::ApiServer;
use super::typed::{TypedError, round_trip};

/// Position in [`KINDS`]; what the store files objects under.
pub(crate) type KindId = usize;

/// One served kind.
#[derive(Debug)]
pub(crate) struct ResourceKind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) namespaced: bool,
    /// True when there is a `status` subresource. Writes to the object itself leave its status
    /// alone.
    pub(crate) status: bool,
    /// True when `metadata.generation` is kept, and raised when the spec changes.
    pub(crate) generation: bool,
    /// Subresources besides `status`.
    pub(crate) subresources: &'static [&'static str],
    /// Deserialises into the k8s-openapi type and back, which checks types and drops unknown
    /// fields.
    pub(crate) typed: fn(&Value) -> Result<Value, TypedError>,
    /// The differences from the behaviour of every object.
    pub(crate) behaviour: Behaviour,
    /// Returns the kind's schema. The schemas of the types within it stay in the generator.
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

impl PartialEq for ResourceKind {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl ResourceKind {
    /// Returns `v1` or `group/version`.
    pub(crate) fn api_version(&self) -> String {
        group_version(self.group, self.version)
    }

    /// Returns `statefulsets.apps`, as error messages name resources.
    pub(crate) fn qualified_resource(&self) -> String {
        qualify(self.plural, self.group)
    }

    /// Returns `StatefulSet.apps`, as validation errors name kinds.
    pub(crate) fn qualified_kind(&self) -> String {
        qualify(self.kind, self.group)
    }

    pub(crate) fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Returns the kind that stores the objects: both event APIs are views of one storage.
    pub(crate) fn storage(&'static self) -> &'static ResourceKind {
        if self.is_events_v1() {
            find("", "v1", "events").expect("v1 events are in the table")
        } else {
            self
        }
    }

    pub(crate) fn id(&self) -> KindId {
        KINDS
            .iter()
            .position(|kind| kind == self)
            .expect("kinds come from the table only")
    }

    pub(crate) fn is_events_v1(&self) -> bool {
        self.group == "events.k8s.io"
    }
}

fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// Returns `v1` for the core group, `group/version` otherwise.
pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Returns the kind served as `plural` in that group and version.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static ResourceKind> {
    KINDS
        .iter()
        .find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// Lists the namespaced resources that are stored.
#[cfg(test)]
pub(crate) fn namespaced_plurals() -> impl Iterator<Item = &'static str> {
    KINDS
        .iter()
        .filter(|kind| kind.namespaced)
        .map(|kind| kind.plural)
}

/// Lists groups with their versions, core first, in the order of the table.
pub(crate) fn groups() -> Vec<(&'static str, &'static str)> {
    let mut groups: Vec<(&str, &str)> = Vec::new();
    for (group, version) in KINDS
        .iter()
        .map(|k| (k.group, k.version))
        .chain(VIRTUAL.iter().map(|v| (v.group, v.version)))
    {
        if !groups.contains(&(group, version)) {
            groups.push((group, version));
        }
    }
    groups
}

/// Resources that are answered, not stored: they can only be created.
#[derive(Debug)]
pub(crate) struct VirtualKind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    /// Returns the status that answers a review.
    pub(crate) answer: fn(&ApiServer, &Caller, &Value) -> Value,
}

/// The reviews this server answers.
pub(crate) static VIRTUAL: &[VirtualKind] = &[
    VirtualKind {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        answer: reviews::access,
    },
    VirtualKind {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        answer: reviews::access_of_subject,
    },
    VirtualKind {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        answer: reviews::rules,
    },
    VirtualKind {
        group: "authentication.k8s.io",
        version: "v1",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        answer: reviews::user,
    },
];

macro_rules! kind {
    ($group:literal / $version:literal $kind:literal as $ty:ty, $plural:literal $short:expr, $cat:expr,
     ns: $ns:literal, status: $status:literal, generation: $gen:literal, sub: $sub:expr, $singular:literal, $behaviour:ident) => {
        ResourceKind {
            group: $group,
            version: $version,
            kind: $kind,
            plural: $plural,
            singular: $singular,
            short_names: &$short,
            categories: &$cat,
            namespaced: $ns,
            status: $status,
            generation: $gen,
            subresources: &$sub,
            behaviour: Behaviour::$behaviour,
            typed: round_trip::<$ty>,
            schema: |generator| generator.subschema_for::<$ty>(),
        }
    };
}

/// Every stored kind.
#[rustfmt::skip]
pub(crate) static KINDS: &[ResourceKind] = &[
    kind!("" / "v1" "Namespace" as core::Namespace, "namespaces" ["ns"], [], ns: false, status: true, generation: false, sub: ["finalize"], "namespace", NAMESPACE),
    kind!("" / "v1" "Node" as core::Node, "nodes" ["no"], [], ns: false, status: true, generation: false, sub: [], "node", NODE),
    kind!("" / "v1" "Pod" as core::Pod, "pods" ["po"], ["all"], ns: true, status: true, generation: true, sub: ["attach", "binding", "eviction", "exec", "log", "portforward"], "pod", POD),
    kind!("" / "v1" "Service" as core::Service, "services" ["svc"], ["all"], ns: true, status: true, generation: false, sub: [], "service", SERVICE),
    kind!("" / "v1" "Endpoints" as core::Endpoints, "endpoints" ["ep"], [], ns: true, status: false, generation: false, sub: [], "endpoints", ENDPOINTS),
    kind!("" / "v1" "ConfigMap" as core::ConfigMap, "configmaps" ["cm"], [], ns: true, status: false, generation: false, sub: [], "configmap", CONFIG_MAP),
    kind!("" / "v1" "Secret" as core::Secret, "secrets" [], [], ns: true, status: false, generation: false, sub: [], "secret", SECRET),
    kind!("" / "v1" "ServiceAccount" as core::ServiceAccount, "serviceaccounts" ["sa"], [], ns: true, status: false, generation: false, sub: ["token"], "serviceaccount", SERVICE_ACCOUNT),
    kind!("" / "v1" "PersistentVolumeClaim" as core::PersistentVolumeClaim, "persistentvolumeclaims" ["pvc"], [], ns: true, status: true, generation: false, sub: [], "persistentvolumeclaim", CLAIM),
    kind!("" / "v1" "PersistentVolume" as core::PersistentVolume, "persistentvolumes" ["pv"], [], ns: false, status: true, generation: false, sub: [], "persistentvolume", VOLUME),
    kind!("" / "v1" "Event" as core::Event, "events" ["ev"], [], ns: true, status: false, generation: false, sub: [], "event", EVENT),
    kind!("apps" / "v1" "StatefulSet" as apps::StatefulSet, "statefulsets" ["sts"], ["all"], ns: true, status: true, generation: true, sub: ["scale"], "statefulset", STATEFUL_SET),
    kind!("apps" / "v1" "Deployment" as apps::Deployment, "deployments" ["deploy"], ["all"], ns: true, status: true, generation: true, sub: ["scale"], "deployment", DEPLOYMENT),
    kind!("apps" / "v1" "ReplicaSet" as apps::ReplicaSet, "replicasets" ["rs"], ["all"], ns: true, status: true, generation: true, sub: ["scale"], "replicaset", REPLICA_SET),
    kind!("apps" / "v1" "ControllerRevision" as apps::ControllerRevision, "controllerrevisions" [], [], ns: true, status: false, generation: false, sub: [], "controllerrevision", CONTROLLER_REVISION),
    kind!("batch" / "v1" "Job" as batch::Job, "jobs" [], ["all"], ns: true, status: true, generation: true, sub: [], "job", JOB),
    kind!("policy" / "v1" "PodDisruptionBudget" as policy::PodDisruptionBudget, "poddisruptionbudgets" ["pdb"], [], ns: true, status: true, generation: true, sub: [], "poddisruptionbudget", DISRUPTION_BUDGET),
    kind!("discovery.k8s.io" / "v1" "EndpointSlice" as discovery::EndpointSlice, "endpointslices" [], [], ns: true, status: false, generation: true, sub: [], "endpointslice", ENDPOINT_SLICE),
    kind!("storage.k8s.io" / "v1" "StorageClass" as storage::StorageClass, "storageclasses" ["sc"], [], ns: false, status: false, generation: false, sub: [], "storageclass", STORAGE_CLASS),
    kind!("events.k8s.io" / "v1" "Event" as events::Event, "events" ["ev"], [], ns: true, status: false, generation: false, sub: [], "event", EVENT),
    kind!("scheduling.k8s.io" / "v1" "PriorityClass" as scheduling::PriorityClass, "priorityclasses" ["pc"], [], ns: false, status: false, generation: true, sub: [], "priorityclass", PLAIN),
    kind!("coordination.k8s.io" / "v1" "Lease" as coordination::Lease, "leases" [], [], ns: true, status: false, generation: false, sub: [], "lease", LEASE),
    kind!("rbac.authorization.k8s.io" / "v1" "Role" as rbac::Role, "roles" [], [], ns: true, status: false, generation: false, sub: [], "role", ROLE),
    kind!("rbac.authorization.k8s.io" / "v1" "RoleBinding" as rbac::RoleBinding, "rolebindings" [], [], ns: true, status: false, generation: false, sub: [], "rolebinding", ROLE),
    kind!("rbac.authorization.k8s.io" / "v1" "ClusterRole" as rbac::ClusterRole, "clusterroles" [], [], ns: false, status: false, generation: false, sub: [], "clusterrole", ROLE),
    kind!("rbac.authorization.k8s.io" / "v1" "ClusterRoleBinding" as rbac::ClusterRoleBinding, "clusterrolebindings" [], [], ns: false, status: false, generation: false, sub: [], "clusterrolebinding", ROLE),
];
