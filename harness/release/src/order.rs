//! The order in which Helm creates kinds, deletes them, and runs hooks.

use super::bundle::{Hook, HookEvent};
use super::object::Object;

/// Helm's `InstallOrder` (pkg/release/v1/util/kind_sorter.go). Other kinds come last, by name.
const INSTALL_ORDER: [&str; 36] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
];

/// Returns resources in the order of their creation.
pub fn install(resources: &[Object]) -> Vec<&Object> {
    let mut sorted: Vec<&Object> = resources.iter().collect();
    sorted.sort_by(|a, b| {
        rank(a.kind())
            .cmp(&rank(b.kind()))
            .then_with(|| a.name().cmp(b.name()))
    });
    sorted
}

/// Returns resources in the order of their deletion: the reverse.
pub fn uninstall(resources: &[Object]) -> Vec<&Object> {
    let mut sorted = install(resources);
    sorted.reverse();
    sorted
}

/// Returns the hooks of one event, by weight and then by name.
pub fn hooks_of(hooks: &[Hook], event: HookEvent) -> Vec<&Hook> {
    let mut sorted: Vec<&Hook> = hooks.iter().filter(|hook| hook.events.contains(&event)).collect();
    sorted.sort_by(|a, b| {
        a.weight
            .cmp(&b.weight)
            .then_with(|| a.object.name().cmp(b.object.name()))
    });
    sorted
}

fn rank(kind: &str) -> (usize, &str) {
    let known = INSTALL_ORDER.iter().position(|known| *known == kind);
    (known.unwrap_or(INSTALL_ORDER.len()), kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::bundle::Bundle;
    use super::*;

    fn object(kind: &str, name: &str) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}})
    }

    fn names<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Vec<&'a str> {
        objects.into_iter().map(Object::name).collect()
    }

    #[test]
    fn what_pods_need_is_there_before_the_pods() {
        let bundle = Bundle::from_values([
            object("StatefulSet", "sts"),
            object("Widget", "unknown"),
            object("Service", "svc-b"),
            object("Service", "svc-a"),
            object("ConfigMap", "cm"),
            object("Secret", "secret"),
            object("ServiceAccount", "sa"),
            object("PodDisruptionBudget", "pdb"),
        ])
        .unwrap();
        let expected = ["pdb", "sa", "secret", "cm", "svc-a", "svc-b", "sts", "unknown"];
        assert_eq!(names(install(&bundle.resources)), expected);
        let reversed: Vec<&str> = expected.into_iter().rev().collect();
        assert_eq!(names(uninstall(&bundle.resources)), reversed);
    }

    #[test]
    fn hooks_run_by_weight_then_name() {
        let hook = |name: &str, weight: &str| {
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "annotations":
                {"helm.sh/hook": "post-install", "helm.sh/hook-weight": weight}}})
        };
        let bundle = Bundle::from_values([hook("c", "5"), hook("b", "-1"), hook("a", "5")]).unwrap();
        let sorted = hooks_of(&bundle.hooks, HookEvent::PostInstall);
        assert_eq!(names(sorted.iter().map(|hook| &hook.object)), ["b", "a", "c"]);
        assert!(hooks_of(&bundle.hooks, HookEvent::PreDelete).is_empty());
    }
}
