//! The pod's row. Its status column says why a pod is not running.

use serde_json::{Value, json};

use super::cells::{NONE, age, number, or_none, since};
use super::{Layout, columns};
use crate::api::object::{self, at, list, text};

pub(crate) fn pods() -> Layout {
    Layout {
        columns: columns("Name|Ready|Status|Restarts|Age|+IP|+Node|+Nominated Node|+Readiness Gates"),
        row,
    }
}

fn row(pod: &Value) -> Vec<Value> {
    let statuses = list(pod, &["status", "containerStatuses"]);
    let sidecars = sidecar_statuses(pod);
    let ready = statuses
        .iter()
        .chain(sidecars.iter().copied())
        .filter(|s| s["ready"] == true)
        .count();
    let total = list(pod, &["spec", "containers"]).len() + sidecar_names(pod).len();
    let all = statuses
        .iter()
        .chain(list(pod, &["status", "initContainerStatuses"]));
    let restarts: i64 = all.clone().map(|status| number(status, &["restartCount"])).sum();
    let last = all
        .map(|status| text(status, &["lastState", "terminated", "finishedAt"]))
        .max()
        .unwrap_or_default();
    let restarts = match (restarts, last) {
        (0, _) | (_, "") => restarts.to_string(),
        (count, last) => format!("{count} ({} ago)", since(last)),
    };
    vec![
        json!(object::name(pod)),
        json!(format!("{ready}/{total}")),
        json!(status(pod)),
        json!(restarts),
        age(pod),
        or_none(pod, &["status", "podIP"]),
        or_none(pod, &["spec", "nodeName"]),
        or_none(pod, &["status", "nominatedNodeName"]),
        json!(NONE),
    ]
}

fn sidecar_names(pod: &Value) -> Vec<&str> {
    list(pod, &["spec", "initContainers"])
        .iter()
        .filter(|container| text(container, &["restartPolicy"]) == "Always")
        .map(|container| text(container, &["name"]))
        .collect()
}

fn sidecar_statuses(pod: &Value) -> Vec<&Value> {
    let names = sidecar_names(pod);
    list(pod, &["status", "initContainerStatuses"])
        .iter()
        .filter(|status| names.contains(&text(status, &["name"])))
        .collect()
}

/// Returns the status column, by the rules of `printPod` in Kubernetes' `printers/internalversion`.
fn status(pod: &Value) -> String {
    let phase = text(pod, &["status", "phase"]).to_owned();
    let mut reason = match text(pod, &["status", "reason"]) {
        "" => phase,
        reason => reason.to_owned(),
    };
    let initializing = init_reason(pod);
    if let Some(initializing) = &initializing {
        reason.clone_from(initializing);
    } else if let Some(container) = container_reason(pod, &reason) {
        reason = container;
    }
    if object::is_terminating(pod) && !matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
        return "Terminating".to_owned();
    }
    reason
}

fn init_reason(pod: &Value) -> Option<String> {
    let sidecars = sidecar_names(pod);
    let total = list(pod, &["spec", "initContainers"]).len();
    for (index, status) in list(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        let sidecar = sidecars.contains(&text(status, &["name"]));
        let terminated = at(status, &["state", "terminated"]);
        if terminated.is_some_and(|state| state["exitCode"] == 0) || (sidecar && status["started"] == true) {
            continue;
        }
        if let Some(state) = terminated {
            return Some(format!("Init:{}", ended(state)));
        }
        let waiting = text(status, &["state", "waiting", "reason"]);
        if !waiting.is_empty() && waiting != "PodInitializing" {
            return Some(format!("Init:{waiting}"));
        }
        return Some(format!("Init:{index}/{total}"));
    }
    None
}

fn container_reason(pod: &Value, phase: &str) -> Option<String> {
    let mut reason = None;
    let mut running = false;
    for status in list(pod, &["status", "containerStatuses"]).iter().rev() {
        let waiting = text(status, &["state", "waiting", "reason"]);
        if !waiting.is_empty() {
            reason = Some(waiting.to_owned());
        } else if let Some(state) = at(status, &["state", "terminated"]) {
            reason = Some(ended(state));
        } else if status["ready"] == true && at(status, &["state", "running"]).is_some() {
            running = true;
        }
    }
    // The pod still runs while one of its containers has completed.
    if running && (reason.as_deref() == Some("Completed") || phase == "Completed") {
        let ready = list(pod, &["status", "conditions"])
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        return Some(if ready { "Running" } else { "NotReady" }.to_owned());
    }
    reason
}

fn ended(state: &Value) -> String {
    match (text(state, &["reason"]), number(state, &["signal"])) {
        ("", 0) => format!("ExitCode:{}", number(state, &["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_column_says_what_is_the_matter() {
        let with = |status: Value| {
            super::status(
                &json!({"metadata": {}, "spec": {"initContainers": [{"name": "i"}]},
            "status": status}),
            )
        };
        assert_eq!(with(json!({"phase": "Pending"})), "Pending");
        let waiting = json!({"phase": "Running", "containerStatuses": [
            {"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        assert_eq!(with(waiting), "CrashLoopBackOff");
        let init =
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]});
        assert_eq!(with(init), "Init:0/1");
        let deleted = json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}});
        assert_eq!(super::status(&deleted), "Terminating");
    }
}
