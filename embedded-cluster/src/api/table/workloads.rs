//! Rows of StatefulSets, Jobs and related kinds.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells::{NONE, age, duration, joined, number};
use super::{Layout, columns};
use crate::api::object::{self, at, list, text};
use crate::api::subresources::selector_text;

pub(crate) fn stateful_sets() -> Layout {
    Layout {
        columns: columns("Name|Ready|Age|+Containers|+Images"),
        row: |set| {
            let wanted = at(set, &["spec", "replicas"])
                .and_then(Value::as_i64)
                .unwrap_or(1);
            let ready = number(set, &["status", "readyReplicas"]);
            let mut row = vec![
                json!(object::name(set)),
                json!(format!("{ready}/{wanted}")),
                age(set),
            ];
            row.extend(containers(set));
            row
        },
    }
}

pub(crate) fn deployments() -> Layout {
    Layout {
        columns: columns("Name|Ready|#Up-to-date|#Available|Age|+Containers|+Images|+Selector"),
        row: |deployment| {
            let wanted = at(deployment, &["spec", "replicas"])
                .and_then(Value::as_i64)
                .unwrap_or(1);
            let count = |field: &str| number(deployment, &["status", field]);
            let mut row = vec![
                json!(object::name(deployment)),
                json!(format!("{}/{wanted}", count("readyReplicas"))),
                json!(count("updatedReplicas")),
                json!(count("availableReplicas")),
                age(deployment),
            ];
            row.extend(containers(deployment));
            row.push(selector(deployment));
            row
        },
    }
}

pub(crate) fn replica_sets() -> Layout {
    Layout {
        columns: columns("Name|#Desired|#Current|#Ready|Age|+Containers|+Images|+Selector"),
        row: |set| {
            let count = |field: &str| json!(number(set, &["status", field]));
            let mut row = vec![
                json!(object::name(set)),
                json!(
                    at(set, &["spec", "replicas"])
                        .and_then(Value::as_i64)
                        .unwrap_or(1)
                ),
                count("replicas"),
                count("readyReplicas"),
                age(set),
            ];
            row.extend(containers(set));
            row.push(selector(set));
            row
        },
    }
}

pub(crate) fn jobs() -> Layout {
    Layout {
        columns: columns("Name|Status|Completions|Duration|Age|+Containers|+Images|+Selector"),
        row: |job| {
            let succeeded = number(job, &["status", "succeeded"]);
            let completions = match at(job, &["spec", "completions"]).and_then(Value::as_i64) {
                Some(wanted) => format!("{succeeded}/{wanted}"),
                None => format!("{succeeded}/1 of {}", number(job, &["spec", "parallelism"])),
            };
            let mut row = vec![
                json!(object::name(job)),
                json!(job_status(job)),
                json!(completions),
                json!(job_duration(job)),
                age(job),
            ];
            row.extend(containers(job));
            row.push(selector(job));
            row
        },
    }
}

pub(crate) fn disruption_budgets() -> Layout {
    Layout {
        columns: columns("Name|Min Available|Max Unavailable|#Allowed Disruptions|Age"),
        row: |budget| {
            let bound = |field: &str| match at(budget, &["spec", field]) {
                Some(Value::String(text)) => json!(text),
                Some(other) => json!(other.to_string()),
                None => json!("N/A"),
            };
            let allowed = number(budget, &["status", "disruptionsAllowed"]);
            vec![
                json!(object::name(budget)),
                bound("minAvailable"),
                bound("maxUnavailable"),
                json!(allowed),
                age(budget),
            ]
        },
    }
}

pub(crate) fn controller_revisions() -> Layout {
    Layout {
        columns: columns("Name|Controller|#Revision|Age"),
        row: |revision| {
            let owner = list(revision, &["metadata", "ownerReferences"])
                .iter()
                .find(|owner| owner["controller"] == true)
                .map_or_else(|| NONE.to_owned(), controller_name);
            let number = number(revision, &["revision"]);
            vec![
                json!(object::name(revision)),
                json!(owner),
                json!(number),
                age(revision),
            ]
        },
    }
}

/// Returns the controller as `statefulset.apps/web`.
fn controller_name(owner: &Value) -> String {
    let kind = text(owner, &["kind"]).to_lowercase();
    match text(owner, &["apiVersion"]).split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", text(owner, &["name"])),
        None => format!("{kind}/{}", text(owner, &["name"])),
    }
}

fn containers(object: &Value) -> [Value; 2] {
    let all = list(object, &["spec", "template", "spec", "containers"]);
    let column = |field: &str| joined(all.iter().map(|container| text(container, &[field]).to_owned()));
    [column("name"), column("image")]
}

fn selector(object: &Value) -> Value {
    match selector_text(&object["spec"]["selector"]) {
        text if text.is_empty() => json!(NONE),
        text => json!(text),
    }
}

fn job_status(job: &Value) -> &'static str {
    let has = |condition_type: &str| {
        list(job, &["status", "conditions"])
            .iter()
            .any(|condition| condition["type"] == condition_type && condition["status"] == "True")
    };
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if object::is_terminating(job) {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn job_duration(job: &Value) -> String {
    let Ok(start) = text(job, &["status", "startTime"]).parse::<Timestamp>() else {
        return String::new();
    };
    let end = text(job, &["status", "completionTime"])
        .parse()
        .unwrap_or_else(|_| Timestamp::now());
    duration(end.as_second() - start.as_second())
}
