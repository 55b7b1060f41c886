//! Behaviour of each kind beyond that of every object. The rows of [`super::kinds::KINDS`] refer to
//! this module, and nothing else in the API asks for an object's kind.

use serde_json::{Value, json};

use super::kinds::ResourceKind;
use super::server::ApiServer;
use super::status::{ApiError, FieldError};
use super::table::{self, Layout};
use super::validate::names::{self, NameForm};
use super::verbs::create::create_default_service_account;
use super::{admission, defaults, unsupported, validate};

/// Admission of a new object, which it may complete.
type AdmitCreate = fn(&ApiServer, &'static ResourceKind, &mut Value) -> Result<(), ApiError>;

/// Admission of a changed object: the old one and the new one.
type AdmitUpdate = fn(&ApiServer, &'static ResourceKind, &Value, &mut Value) -> Result<(), ApiError>;

/// Steps of a kind's life that differ from those of [`Behaviour::PLAIN`].
#[derive(Debug)]
pub(crate) struct Behaviour {
    /// Fills in what the author left out.
    pub(crate) defaults: fn(&mut Value),
    /// Fields of the spec that stay when an update leaves them out.
    pub(crate) carried_over: &'static [&'static str],
    /// Copies more of the old object to the new one.
    pub(crate) carry_over: fn(&Value, &mut Value),
    /// Sets the status of a new object.
    pub(crate) initial_status: fn(&mut Value),
    /// True when the author of a new object may set its status.
    pub(crate) status_at_creation: bool,
    pub(crate) name: NameForm,
    /// Errors in an object.
    pub(crate) check: fn(&Value) -> Vec<FieldError>,
    /// Errors in a change from the old object to the new one.
    pub(crate) check_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// True when `check_update` alone judges an update, so that the object keeps what admission
    /// accepted.
    pub(crate) admitted_once: bool,
    pub(crate) admit_create: AdmitCreate,
    pub(crate) admit_update: AdmitUpdate,
    /// True when fields are allocated among all objects of the kind, so that writers take turns.
    pub(crate) allocates: bool,
    /// Runs after an object is created. The text is the object's name.
    pub(crate) created: fn(&ApiServer, &str),
    /// Names of objects that cannot be deleted.
    pub(crate) permanent: &'static [&'static str],
    /// True when a node may be running the object, so that its deletion waits for a grace period.
    pub(crate) graceful_deletion: bool,
    /// Sets the status of an object when its deletion begins.
    pub(crate) deletion_begins: fn(&mut Value),
    /// The table that `kubectl get` prints.
    pub(crate) layout: fn() -> Layout,
}

impl Behaviour {
    /// Behaviour of a kind that the server only stores.
    pub(crate) const PLAIN: Self = Self {
        defaults: |_| {},
        carried_over: &[],
        carry_over: |_, _| {},
        initial_status: |_| {},
        status_at_creation: false,
        name: names::SUBDOMAIN_FORM,
        check: |_| Vec::new(),
        check_update: |_, _| Vec::new(),
        admitted_once: false,
        admit_create: |_, _, _| Ok(()),
        admit_update: |_, _, _, _| Ok(()),
        allocates: false,
        created: |_, _| {},
        permanent: &[],
        graceful_deletion: false,
        deletion_begins: |_| {},
        layout: table::plain,
    };

    pub(crate) const NAMESPACE: Self = Self {
        defaults: defaults::namespace,
        initial_status: |namespace| {
            namespace["status"] = json!({"phase": "Active"});
            namespace["spec"] = json!({"finalizers": ["kubernetes"]});
        },
        name: names::LABEL_FORM,
        admit_create: |_, kind, namespace| admission::check_levels(kind, namespace),
        admit_update: |_, kind, _, namespace| admission::check_levels(kind, namespace),
        created: create_default_service_account,
        permanent: &["default", "kube-system", "kube-public"],
        deletion_begins: |namespace| namespace["status"]["phase"] = json!("Terminating"),
        layout: table::cluster::namespaces,
        ..Self::PLAIN
    };

    pub(crate) const NODE: Self = Self {
        status_at_creation: true,
        layout: table::cluster::nodes,
        ..Self::PLAIN
    };

    pub(crate) const POD: Self = Self {
        defaults: defaults::pod::apply,
        carried_over: &["nodeName", "serviceAccountName", "serviceAccount"],
        initial_status: |pod| {
            pod["status"] = json!({"phase": "Pending", "qosClass": defaults::pod::qos_class(pod)});
        },
        check: |pod| {
            let mut errors = validate::pod::spec(&pod["spec"], "spec");
            errors.extend(unsupported::pod(&pod["spec"], "spec"));
            errors
        },
        check_update: validate::pod_update::check,
        admitted_once: true,
        admit_create: ApiServer::admit_pod,
        graceful_deletion: true,
        layout: table::pods::pods,
        ..Self::PLAIN
    };

    pub(crate) const SERVICE: Self = Self {
        defaults: defaults::service::apply,
        carried_over: &["clusterIP", "clusterIPs"],
        initial_status: |service| service["status"] = json!({"loadBalancer": {}}),
        name: names::LABEL_1035_FORM,
        check: validate::service::check,
        check_update: validate::service::update,
        admit_create: |server, kind, service| server.admit_service(kind, None, service),
        admit_update: |server, kind, old, service| server.admit_service(kind, Some(old), service),
        allocates: true,
        layout: table::cluster::services,
        ..Self::PLAIN
    };

    pub(crate) const ENDPOINTS: Self = Self {
        layout: table::cluster::endpoints,
        ..Self::PLAIN
    };

    pub(crate) const ENDPOINT_SLICE: Self = Self {
        defaults: defaults::endpoint_slice,
        layout: table::cluster::endpoint_slices,
        ..Self::PLAIN
    };

    pub(crate) const CONFIG_MAP: Self = Self {
        check: validate::data::keys,
        check_update: validate::data::immutable,
        layout: table::cluster::config_maps,
        ..Self::PLAIN
    };

    pub(crate) const SECRET: Self = Self {
        defaults: defaults::secret,
        check: validate::data::keys,
        check_update: validate::data::immutable,
        layout: table::cluster::secrets,
        ..Self::PLAIN
    };

    pub(crate) const SERVICE_ACCOUNT: Self = Self {
        layout: table::cluster::service_accounts,
        ..Self::PLAIN
    };

    pub(crate) const CLAIM: Self = Self {
        defaults: |claim| defaults::claim::apply(&mut claim["spec"]),
        carried_over: &["volumeName", "storageClassName"],
        initial_status: |claim| claim["status"] = json!({"phase": "Pending"}),
        check: |claim| validate::data::claim(&claim["spec"], "spec"),
        check_update: validate::data::claim_update,
        admit_create: |server, _, claim| {
            server.give_default_class(claim);
            Ok(())
        },
        layout: table::cluster::claims,
        ..Self::PLAIN
    };

    pub(crate) const VOLUME: Self = Self {
        defaults: defaults::claim::apply_volume,
        initial_status: |volume| volume["status"] = json!({"phase": "Pending"}),
        layout: table::cluster::volumes,
        ..Self::PLAIN
    };

    pub(crate) const STORAGE_CLASS: Self = Self {
        defaults: defaults::claim::apply_class,
        layout: table::cluster::storage_classes,
        ..Self::PLAIN
    };

    pub(crate) const STATEFUL_SET: Self = Self {
        defaults: defaults::stateful_set::apply,
        initial_status: |set| set["status"] = json!({"replicas": 0, "availableReplicas": 0}),
        check: validate::stateful_set::check,
        check_update: validate::stateful_set::update,
        layout: table::workloads::stateful_sets,
        ..Self::PLAIN
    };

    pub(crate) const DEPLOYMENT: Self = Self {
        defaults: defaults::deployment::apply,
        initial_status: |deployment| deployment["status"] = json!({}),
        check: validate::deployment::check,
        check_update: validate::deployment::update,
        layout: table::workloads::deployments,
        ..Self::PLAIN
    };

    pub(crate) const REPLICA_SET: Self = Self {
        defaults: defaults::deployment::apply_set,
        initial_status: |set| set["status"] = json!({"replicas": 0}),
        check: validate::deployment::check,
        check_update: validate::deployment::update,
        layout: table::workloads::replica_sets,
        ..Self::PLAIN
    };

    pub(crate) const CONTROLLER_REVISION: Self = Self {
        layout: table::workloads::controller_revisions,
        ..Self::PLAIN
    };

    pub(crate) const JOB: Self = Self {
        defaults: defaults::job::apply,
        carried_over: &["selector"],
        carry_over: defaults::job::carry_over,
        initial_status: |job| job["status"] = json!({}),
        check: validate::job::check,
        check_update: validate::job::update,
        layout: table::workloads::jobs,
        ..Self::PLAIN
    };

    pub(crate) const DISRUPTION_BUDGET: Self = Self {
        defaults: |budget| defaults::disruption::apply(&mut budget["spec"]),
        check: |budget| validate::data::disruption_budget(&budget["spec"]),
        layout: table::workloads::disruption_budgets,
        ..Self::PLAIN
    };

    pub(crate) const EVENT: Self = Self {
        layout: table::cluster::events,
        ..Self::PLAIN
    };

    pub(crate) const LEASE: Self = Self {
        layout: table::cluster::leases,
        ..Self::PLAIN
    };

    /// Behaviour of roles and role bindings. Their names may have colons and capitals.
    pub(crate) const ROLE: Self = Self {
        name: names::PATH_SEGMENT_FORM,
        ..Self::PLAIN
    };
}
