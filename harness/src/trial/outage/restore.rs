//! The patch that ends an outage of a StatefulSet's pods.

use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use super::NOWHERE;

/// Returns the patch that restores the fields of a StatefulSet that an outage changes.
pub(super) fn restoring(set: &StatefulSet) -> Value {
    let strategy = set.spec.update_strategy.clone().unwrap_or_default();
    let kind = strategy.type_.unwrap_or_else(|| "RollingUpdate".to_owned());
    let rolling = strategy.rolling_update;
    let pod = set.spec.template.spec.as_ref();
    let selects = pod
        .and_then(|pod| pod.node_selector.as_ref())
        .is_some_and(|labels| !labels.is_empty());
    // An empty selector differs from no selector: it would be a new revision and restart every pod.
    let selector = if selects {
        json!({NOWHERE: null})
    } else {
        Value::Null
    };
    json!({"spec": {
        "updateStrategy": {"type": kind, "rollingUpdate": rolling},
        "template": {"spec": {"nodeSelector": selector}},
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(strategy: &Value, pod: &Value) -> StatefulSet {
        let set = json!({"metadata": {"name": "vk"}, "spec": {"serviceName": "vk", "selector": {},
            "template": {"spec": pod}, "updateStrategy": strategy}});
        serde_json::from_value(set).expect("a StatefulSet")
    }

    fn restored(strategy: &Value) -> Value {
        restoring(&set(strategy, &json!({"containers": []})))["spec"]["updateStrategy"].clone()
    }

    #[test]
    fn a_selector_is_left_as_it_was() {
        let selector = |pod: Value| {
            restoring(&set(&json!({}), &pod))["spec"]["template"]["spec"]["nodeSelector"].clone()
        };
        assert_eq!(selector(json!({"containers": []})), Value::Null);
        let fast = json!({"containers": [], "nodeSelector": {"disk": "fast"}});
        assert_eq!(selector(fast), json!({NOWHERE: null}));
    }

    #[test]
    fn the_update_strategy_is_restored_as_it_was() {
        let partitioned = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
        assert_eq!(restored(&partitioned), partitioned);
        assert_eq!(
            restored(&json!({"type": "OnDelete"})),
            json!({"type": "OnDelete", "rollingUpdate": null})
        );
    }
}
