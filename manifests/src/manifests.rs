//! Rendered objects: typed, in Helm's install order, with the hooks, and as stable YAML.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde_json::Value;

use crate::hook::{Hook, HookEvent};

/// Every object of a release. The order of the fields is the order in which Helm installs kinds.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifests {
    /// Cluster mode only, if `pdb.enabled`.
    pub pod_disruption_budget: Option<PodDisruptionBudget>,
    /// If `serviceAccount.create`.
    pub service_account: Option<ServiceAccount>,
    /// If `auth.enabled` without an existing Secret.
    pub secret: Option<Secret>,
    /// Holds `valkey.conf`.
    pub config_map: ConfigMap,
    /// For clients.
    pub service: Service,
    /// For the pods' DNS names.
    pub headless_service: Service,
    /// The servers.
    pub stateful_set: StatefulSet,
    /// Hooks that Helm runs at its events, by event and weight.
    pub hooks: Vec<Hook>,
}

impl Manifests {
    /// Returns the objects of the release, without hooks, in Helm's install order.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        let mut objects = Vec::new();
        objects.extend(self.pod_disruption_budget.as_ref().map(json));
        objects.extend(self.service_account.as_ref().map(json));
        objects.extend(self.secret.as_ref().map(json));
        objects.push(json(&self.config_map));
        objects.push(json(&self.service));
        objects.push(json(&self.headless_service));
        objects.push(json(&self.stateful_set));
        objects
    }

    /// Returns the hooks of one event in Helm's order: by weight, then by name.
    #[must_use]
    pub fn hooks_for(&self, event: HookEvent) -> Vec<&Hook> {
        let mut hooks: Vec<_> = self
            .hooks
            .iter()
            .filter(|hook| hook.events.contains(&event))
            .collect();
        hooks.sort_by_key(|hook| (hook.weight, hook.name().to_owned()));
        hooks
    }

    /// Returns all objects and then all hooks as YAML documents. Equal manifests give equal bytes.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let hooks = self.hooks.iter().map(Hook::to_value);
        self.objects()
            .into_iter()
            .chain(hooks)
            .map(|object| format!("---\n{}", yaml(&object)))
            .collect()
    }
}

/// Returns one object as a YAML document.
pub(crate) fn yaml(object: &impl Serialize) -> String {
    serde_yaml::to_string(object).expect("Kubernetes objects are plain YAML")
}

fn json(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("Kubernetes objects are plain JSON")
}
