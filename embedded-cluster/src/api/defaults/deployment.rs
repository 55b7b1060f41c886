//! Defaults of Deployments and ReplicaSets.

use serde_json::{Value, json};

use super::{pod, set};

/// Fills in a Deployment.
pub(crate) fn apply(deployment: &mut Value) {
    let spec = &mut deployment["spec"];
    set(spec, "replicas", json!(1));
    set(spec, "revisionHistoryLimit", json!(10));
    set(spec, "progressDeadlineSeconds", json!(600));
    set(spec, "strategy", json!({}));
    let strategy = &mut spec["strategy"];
    set(strategy, "type", json!("RollingUpdate"));
    if strategy["type"] == "RollingUpdate" {
        set(strategy, "rollingUpdate", json!({}));
        set(&mut strategy["rollingUpdate"], "maxSurge", json!("25%"));
        set(&mut strategy["rollingUpdate"], "maxUnavailable", json!("25%"));
    }
    pod::apply_template(&mut spec["template"]["spec"]);
}

/// Fills in a ReplicaSet.
pub(crate) fn apply_set(replica_set: &mut Value) {
    let spec = &mut replica_set["spec"];
    set(spec, "replicas", json!(1));
    pod::apply_template(&mut spec["template"]["spec"]);
}
