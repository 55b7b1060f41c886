//! Pods and pod templates.

use std::collections::BTreeSet;

use serde_json::Value;

use super::container::container;
use super::form::{not_negative, one_of};
use super::names;
use crate::api::object::{at, list, text};
use crate::api::status::FieldError;

/// Returns errors in a pod's spec at `path`.
pub(crate) fn spec(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if list(spec, &["containers"]).is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    one_of(
        spec,
        path,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
        &mut errors,
    );
    one_of(
        spec,
        path,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        &mut errors,
    );
    not_negative(spec, path, "terminationGracePeriodSeconds", &mut errors);
    if at(spec, &["activeDeadlineSeconds"])
        .and_then(Value::as_i64)
        .is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds))
    {
        let text = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(
            format!("{path}.activeDeadlineSeconds"),
            spec["activeDeadlineSeconds"].clone(),
            text,
        ));
    }
    for field in ["hostname", "subdomain"] {
        let name = text(spec, &[field]);
        if !name.is_empty() && !names::is_label(name) {
            errors.push(FieldError::invalid(format!("{path}.{field}"), name, names::LABEL));
        }
    }
    let volumes = volumes(spec, path, &mut errors);
    let mut seen = BTreeSet::new();
    for field in ["initContainers", "containers"] {
        for (index, container) in list(spec, &[field]).iter().enumerate() {
            let path = format!("{path}.{field}[{index}]");
            let name = text(container, &["name"]);
            if !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
            self::container(container, &path, field, &volumes, &mut errors);
        }
    }
    errors
}

fn volumes<'a>(spec: &'a Value, path: &str, errors: &mut Vec<FieldError>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (index, volume) in list(spec, &["volumes"]).iter().enumerate() {
        let path = format!("{path}.volumes[{index}]");
        let name = text(volume, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !names::is_label(name) {
            errors.push(FieldError::invalid(format!("{path}.name"), name, names::LABEL));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
            .filter(|k| *k != "name")
            .collect();
        if sources.len() > 1 {
            let text = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(format!("{path}.{}", sources[1]), text));
        }
        if at(volume, &["persistentVolumeClaim"]).is_some()
            && text(volume, &["persistentVolumeClaim", "claimName"]).is_empty()
        {
            errors.push(FieldError::required(
                format!("{path}.persistentVolumeClaim.claimName"),
                "",
            ));
        }
        if at(volume, &["secret"]).is_some() && text(volume, &["secret", "secretName"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.secret.secretName"), ""));
        }
        if at(volume, &["configMap"]).is_some() && text(volume, &["configMap", "name"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.configMap.name"), ""));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: &Value) -> Vec<String> {
        spec(value, "spec").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_pod_has_no_errors() {
        let good = json!({"restartPolicy": "Always", "volumes": [{"name": "v", "emptyDir": {}}], "containers": [
            {"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}],
             "ports": [{"name": "p", "containerPort": 6379, "protocol": "TCP"}],
             "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
             "livenessProbe": {"tcpSocket": {"port": "p"}}}]});
        assert!(fields(&good).is_empty(), "{:?}", fields(&good));
    }

    #[test]
    fn mistakes_are_named_as_kubernetes_names_them() {
        let bad = json!({"restartPolicy": "Sometimes", "containers": [
            {"name": "c", "volumeMounts": [{"name": "gone", "mountPath": "/v"}], "image": "i"},
            {"name": "c", "image": "", "livenessProbe": {}, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]});
        assert_eq!(
            fields(&bad),
            [
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                "spec.containers[0].volumeMounts[0].name: Not found: \"gone\"",
                "spec.containers[1].name: Duplicate value: \"c\"",
                "spec.containers[1].image: Required value",
                "spec.containers[1].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                "spec.containers[1].livenessProbe: Required value: must specify a handler type",
            ]
        );
    }
}
