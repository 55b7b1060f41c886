//! The end of an outage: the patch of the StatefulSet, and the deletion of the pods kept away.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};
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

/// Returns true if an outage keeps `pod` pending.
pub(crate) fn is_kept_away(pod: &Pod) -> bool {
    let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    selector.is_some_and(|selector| selector.contains_key(NOWHERE))
}

/// Returns how to delete `pod` and no other pod of its name, if an outage keeps it pending.
pub(super) fn deletion_if_kept_away(pod: &Pod) -> Option<DeleteParams> {
    let this_pod = Preconditions {
        uid: pod.uid(),
        resource_version: None,
    };
    is_kept_away(pod).then(|| DeleteParams::default().grace_period(0).preconditions(this_pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node_selector: &Value) -> Pod {
        let pod = json!({"metadata": {"name": "vk-1", "uid": "7d1"},
            "spec": {"containers": [], "nodeSelector": node_selector}});
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn only_the_very_pod_that_was_kept_away_is_deleted() {
        let kept_away = deletion_if_kept_away(&pod(&json!({"disk": "fast", NOWHERE: "true"})));
        let how = kept_away.expect("it never ran");
        assert_eq!(
            how.preconditions.and_then(|which| which.uid).as_deref(),
            Some("7d1")
        );
        assert!(
            deletion_if_kept_away(&pod(&json!({"disk": "fast"}))).is_none(),
            "a successor"
        );
        assert!(deletion_if_kept_away(&pod(&Value::Null)).is_none(), "a successor");
    }

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
