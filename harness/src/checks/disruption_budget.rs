//! The PodDisruptionBudget covers exactly the server pods, and allows the disruption it promises.
//!
//! A budget that also selects Job pods cannot be computed: drains hang with `disruptionsAllowed` 0.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde::{Deserialize, Serialize};

use super::Violation;

/// The check's name.
pub const NAME: &str = "disruption_budget";

/// A pod, or a pod template, by its labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelledPod {
    /// A pod's name, or the name of the object whose template this is.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is a Valkey server (and not a hook Job's or a test's pod).
    pub server: bool,
}

/// A budget whose selector catches something else, or that allows nothing although all servers are healthy.
pub fn check(budget: &PodDisruptionBudget, pods: &[LabelledPod], all_ready: bool) -> Vec<Violation> {
    let name = budget.metadata.name.as_deref().unwrap_or_default();
    let subject = format!("PodDisruptionBudget {name}");
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let mut violations = Vec::new();
    for pod in pods {
        match (selects(selector, &pod.labels), pod.server) {
            (true, false) => violations.push(
                Violation::new(
                    NAME,
                    &subject,
                    "to select only server pods",
                    format!("it selects {}", pod.name),
                )
                .with_evidence(format!("labels: {}", labels_text(&pod.labels))),
            ),
            (false, true) => {
                violations.push(Violation::new(
                    NAME,
                    &subject,
                    format!("to select {}", pod.name),
                    "it does not",
                ));
            }
            (true, true) | (false, false) => {}
        }
    }
    violations.extend(status_violations(budget, &subject, pods, all_ready));
    violations
}

fn status_violations(
    budget: &PodDisruptionBudget,
    subject: &str,
    pods: &[LabelledPod],
    all_ready: bool,
) -> Vec<Violation> {
    let Some(status) = &budget.status else {
        return Vec::new();
    };
    let mut violations = Vec::new();
    for condition in status.conditions.iter().flatten() {
        if condition.type_ == "DisruptionAllowed" && condition.reason == "SyncFailed" {
            violations.push(Violation::new(
                NAME,
                subject,
                "a budget that can be computed",
                &condition.message,
            ));
        }
    }
    let servers = pods.iter().filter(|pod| pod.server).count();
    let expected_pods = status.expected_pods.unwrap_or(0);
    if usize::try_from(expected_pods) != Ok(servers) {
        violations.push(
            Violation::new(
                NAME,
                subject,
                format!("expectedPods {servers}"),
                expected_pods.to_string(),
            )
            .legal_while("pods come and go"),
        );
    }
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if all_ready && allowed < 1 {
        let seen = format!(
            "disruptionsAllowed {allowed} (healthy {}, desired {})",
            status.current_healthy.unwrap_or(0),
            status.desired_healthy.unwrap_or(0)
        );
        violations.push(
            Violation::new(
                NAME,
                subject,
                "a disruption to be allowed while all servers are Ready",
                seen,
            )
            .legal_while("pods come and go"),
        );
    }
    violations
}

/// Whether a selector matches labels. In policy/v1 an empty selector matches every pod, a missing one none.
pub fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return false };
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(name, value)| labels.get(name) == Some(value));
    equal
        && selector
            .match_expressions
            .iter()
            .flatten()
            .all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed =
        || value.is_some_and(|value| requirement.values.iter().flatten().any(|listed| listed == value));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

fn labels_text(labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: &serde_json::Value) -> PodDisruptionBudget {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "valkey"},
            "spec": {"maxUnavailable": 1, "selector": {
                "matchLabels": {"app": "valkey"},
                "matchExpressions": [{"key": "tool", "operator": "DoesNotExist"}],
            }},
            "status": status,
        }))
        .expect("a budget")
    }

    fn healthy_status() -> serde_json::Value {
        serde_json::json!({"expectedPods": 2, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1})
    }

    fn pod(name: &str, labels: &[(&str, &str)], server: bool) -> LabelledPod {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        LabelledPod {
            name: name.to_owned(),
            labels,
            server,
        }
    }

    fn pods() -> Vec<LabelledPod> {
        vec![
            pod("valkey-0", &[("app", "valkey")], true),
            pod("valkey-1", &[("app", "valkey")], true),
            pod(
                "valkey-cluster-init",
                &[("app", "valkey"), ("tool", "init")],
                false,
            ),
        ]
    }

    #[test]
    fn a_budget_over_exactly_the_servers_is_fine() {
        assert_eq!(check(&budget(&healthy_status()), &pods(), true), []);
    }

    #[test]
    fn a_job_pod_in_the_selection_is_named_with_its_labels() {
        let mut all = pods();
        all[2].labels.remove("tool");
        let violations = check(&budget(&healthy_status()), &all, true);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].seen, "it selects valkey-cluster-init");
        assert_eq!(violations[0].evidence, ["labels: app=valkey"]);
    }

    #[test]
    fn a_budget_that_cannot_be_computed_or_allows_nothing_is_named() {
        let status = serde_json::json!({
            "expectedPods": 2, "disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2,
            "conditions": [{"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed",
                "message": "jobs.batch does not implement the scale subresource", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        });
        let violations = check(&budget(&status), &pods(), true);
        assert_eq!(violations.len(), 2);
        assert_eq!(
            violations[0].seen,
            "jobs.batch does not implement the scale subresource"
        );
        assert_eq!(
            check(&budget(&status), &pods(), false).len(),
            1,
            "nothing may be allowed while a pod is not Ready"
        );
    }
}
