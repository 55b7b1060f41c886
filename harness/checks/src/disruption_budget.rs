//! The PodDisruptionBudget covers exactly the server pods, and allows the promised disruption.
//!
//! Kubernetes cannot compute a budget that also selects Job pods: drains hang with
//! `disruptionsAllowed` 0.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use super::Violation;

/// The check's name.
pub const NAME: &str = "disruption_budget";

/// The promise that a budget counts servers, and no pods of Jobs.
pub const ONLY_SERVERS: &str = "to select only server pods";

/// The labels of a pod or of a pod template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelledPod {
    /// The name of the pod or of the object that holds the template.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// True if it is a Valkey server (and not a hook Job's or a test's pod).
    pub server: bool,
}

/// Checks that the budget selects exactly the servers. Also checks that it allows a disruption
/// while all servers are healthy.
pub fn check(budget: &PodDisruptionBudget, pods: &[LabelledPod], all_ready: bool) -> Vec<Violation> {
    let name = budget.metadata.name.as_deref().unwrap_or_default();
    let subject = format!("PodDisruptionBudget {name}");
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let mut violations = Vec::new();
    let selected = |pod: &&LabelledPod| selects(selector, &pod.labels);
    if !pods.iter().filter(selected).any(|pod| pod.server) && pods.iter().any(|pod| selected(&pod)) {
        // The budget is for auxiliary pods, not for the servers.
        return violations;
    }
    for pod in pods {
        match (selects(selector, &pod.labels), pod.server) {
            (true, false) => violations.push(
                Violation::new(NAME, &subject, ONLY_SERVERS, format!("it selects {}", pod.name))
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
        violations.push(Violation::new(
            NAME,
            subject,
            format!("expectedPods {servers}"),
            expected_pods.to_string(),
        ));
    }
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if all_ready && allowed < 1 && !asks_for_all(budget, servers) {
        let seen = format!(
            "disruptionsAllowed {allowed} (healthy {}, desired {})",
            status.current_healthy.unwrap_or(0),
            status.desired_healthy.unwrap_or(0)
        );
        violations.push(Violation::new(
            NAME,
            subject,
            "a disruption to be allowed while all servers are Ready",
            seen,
        ));
    }
    violations
}

/// Returns true if the budget itself allows no disruption, which a user may want.
fn asks_for_all(budget: &PodDisruptionBudget, servers: usize) -> bool {
    let spec = budget.spec.as_ref();
    let none = spec
        .and_then(|spec| spec.max_unavailable.as_ref())
        .is_some_and(|most| match most {
            IntOrString::Int(number) => *number == 0,
            IntOrString::String(share) => share.trim_end_matches('%') == "0",
        });
    let all = spec
        .and_then(|spec| spec.min_available.as_ref())
        .is_some_and(|least| match least {
            IntOrString::Int(number) => usize::try_from(*number).is_ok_and(|number| number >= servers),
            IntOrString::String(share) => share == "100%",
        });
    none || all
}

/// Returns true if a selector matches labels. In policy/v1 an empty selector matches every pod, a
/// missing one none.
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
    fn a_budget_that_leaves_no_disruption_is_what_the_user_wants() {
        let status = serde_json::json!({"expectedPods": 2, "disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2});
        let mut strict = budget(&status);
        assert_eq!(check(&strict, &pods(), true).len(), 1);
        let spec = strict.spec.as_mut().expect("a spec");
        spec.max_unavailable = Some(IntOrString::Int(0));
        assert_eq!(check(&strict, &pods(), true), []);
        let spec = strict.spec.as_mut().expect("a spec");
        (spec.max_unavailable, spec.min_available) = (None, Some(IntOrString::String("100%".to_owned())));
        assert_eq!(check(&strict, &pods(), true), []);
    }

    #[test]
    fn a_budget_for_something_beside_the_servers_is_fine() {
        let mut all = pods();
        for pod in &mut all[..2] {
            pod.labels.insert("tool".to_owned(), "none".to_owned());
        }
        all[2].labels.remove("tool");
        let status = serde_json::json!({"expectedPods": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1});
        assert_eq!(check(&budget(&status), &all, true), []);
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
