//! Pods and pod templates.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
use crate::api::object::{at, list, text};
use crate::api::status::FieldError;

/// Errors in a pod's spec at `path`.
pub(super) fn spec(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if list(spec, &["containers"]).is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    one_of(spec, path, "restartPolicy", &["Always", "OnFailure", "Never"], &mut errors);
    one_of(spec, path, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], &mut errors);
    not_negative(spec, path, "terminationGracePeriodSeconds", &mut errors);
    if at(spec, &["activeDeadlineSeconds"]).and_then(Value::as_i64).is_some_and(|seconds| seconds < 1) {
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
        let sources: Vec<&String> =
            volume.as_object().into_iter().flatten().map(|(key, _)| key).filter(|k| *k != "name").collect();
        if sources.len() > 1 {
            let text = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(format!("{path}.{}", sources[1]), text));
        }
        if at(volume, &["persistentVolumeClaim"]).is_some()
            && text(volume, &["persistentVolumeClaim", "claimName"]).is_empty()
        {
            errors.push(FieldError::required(format!("{path}.persistentVolumeClaim.claimName"), ""));
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

fn container(
    container: &Value,
    path: &str,
    field: &str,
    volumes: &BTreeSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    let name = text(container, &["name"]);
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    } else if !names::is_label(name) {
        errors.push(FieldError::invalid(format!("{path}.name"), name, names::LABEL));
    }
    if text(container, &["image"]).is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    }
    one_of(container, path, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], errors);
    one_of(container, path, "terminationMessagePolicy", &["FallbackToLogsOnError", "File"], errors);
    let sidecar = text(container, &["restartPolicy"]) == "Always";
    if at(container, &["restartPolicy"]).is_some() && (field == "containers" || !sidecar) {
        let text = "may not be set for non-init containers";
        errors.push(FieldError::forbidden(format!("{path}.restartPolicy"), text));
    }
    ports(container, path, errors);
    environment(container, path, errors);
    mounts(container, path, volumes, errors);
    resources(container, path, errors);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(value) = container.get(probe).filter(|value| value.is_object()) else { continue };
        if field == "initContainers" && !sidecar {
            let text = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(format!("{path}.{probe}"), text));
        }
        self::probe(value, &format!("{path}.{probe}"), probe, errors);
    }
    for hook in ["postStart", "preStop"] {
        if let Some(value) = at(container, &["lifecycle", hook]) {
            handler(value, &format!("{path}.lifecycle.{hook}"), errors);
        }
    }
    security(container, path, errors);
}

fn ports(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, port) in list(container, &["ports"]).iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        let number = port["containerPort"].as_i64().unwrap_or(0);
        if number == 0 {
            errors.push(FieldError::required(format!("{path}.containerPort"), ""));
        } else {
            port_number(&port["containerPort"], &format!("{path}.containerPort"), errors);
        }
        one_of(port, &path, "protocol", &["SCTP", "TCP", "UDP"], errors);
        let name = text(port, &["name"]);
        if !name.is_empty() && !names::is_port_name(name) {
            let text = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), no more than 15 of them, with a letter";
            errors.push(FieldError::invalid(format!("{path}.name"), name, text));
        } else if !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
    }
}

/// A number that is not a port.
pub(super) fn port_number(value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|number| !(1..=65535).contains(&number)) {
        errors.push(FieldError::invalid(path, value.clone(), "must be between 1 and 65535, inclusive"));
    }
}

fn environment(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (index, env) in list(container, &["env"]).iter().enumerate() {
        let path = format!("{path}.env[{index}]");
        let name = text(env, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !name.bytes().all(|b| b.is_ascii_graphic() && b != b'=') {
            let text = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errors.push(FieldError::invalid(format!("{path}.name"), name, text));
        }
        let Some(from) = env.get("valueFrom").and_then(Value::as_object) else { continue };
        if !text(env, &["value"]).is_empty() {
            let text = "may not be specified when `value` is not empty";
            errors.push(FieldError::invalid(format!("{path}.valueFrom"), "", text));
        }
        if from.len() != 1 {
            let text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
            errors.push(FieldError::invalid(format!("{path}.valueFrom"), "", text));
        }
        for source in ["configMapKeyRef", "secretKeyRef"] {
            if from.contains_key(source) && text(env, &["valueFrom", source, "key"]).is_empty() {
                errors.push(FieldError::required(format!("{path}.valueFrom.{source}.key"), ""));
            }
        }
    }
}

fn mounts(container: &Value, path: &str, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, mount) in list(container, &["volumeMounts"]).iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        let (name, target) = (text(mount, &["name"]), text(mount, &["mountPath"]));
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !volumes.contains(name) {
            // Kubernetes reports this one as "Not found".
            errors.push(FieldError::not_found(format!("{path}.name"), name));
        }
        if target.is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        } else if !seen.insert(target) {
            errors.push(FieldError::invalid(format!("{path}.mountPath"), target, "must be unique"));
        }
        let sub = text(mount, &["subPath"]);
        if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
            let text = "must be a relative path without '..'";
            errors.push(FieldError::invalid(format!("{path}.subPath"), sub, text));
        }
    }
}

fn resources(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for which in ["limits", "requests"] {
        let amounts = at(container, &["resources", which]).and_then(Value::as_object);
        for (resource, amount) in amounts.into_iter().flatten() {
            let amount = amount.as_str().unwrap_or_default();
            if quantity(amount).is_none_or(|number| number < 0.0) {
                let text = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$' and not be negative";
                errors.push(FieldError::invalid(format!("{path}.resources.{which}.{resource}"), amount, text));
            }
        }
        let limits = |name: &str| quantity(text(container, &["resources", "limits", name]));
        for (resource, amount) in amounts.into_iter().flatten().filter(|_| which == "requests") {
            let amount = amount.as_str().unwrap_or_default();
            if let (Some(asked), Some(limit)) = (quantity(amount), limits(resource))
                && asked > limit
            {
                let text = format!("must be less than or equal to {resource} limit of {}", text(container, &["resources", "limits", resource]));
                errors.push(FieldError::invalid(format!("{path}.resources.requests"), amount, text));
            }
        }
    }
}

/// The number that a quantity stands for; `None` when it is not a quantity.
pub(super) fn quantity(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => f64::from(1 << 20),
        "Gi" => f64::from(1 << 30),
        "Ti" => 1024.0 * f64::from(1 << 30),
        "Pi" => f64::from(1 << 20) * f64::from(1 << 30),
        "Ei" => f64::from(1 << 30) * f64::from(1 << 30),
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}

fn probe(probe: &Value, path: &str, kind: &str, errors: &mut Vec<FieldError>) {
    handler(probe, path, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        not_negative(probe, path, field, errors);
    }
    if kind != "readinessProbe" && probe["successThreshold"].as_i64().is_some_and(|n| n > 1) {
        let value = probe["successThreshold"].clone();
        errors.push(FieldError::invalid(format!("{path}.successThreshold"), value, "must be 1"));
    }
}

fn handler(handler: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let kinds = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
    let given: Vec<&str> = kinds.into_iter().filter(|kind| handler.get(*kind).is_some()).collect();
    match given.as_slice() {
        [] => errors.push(FieldError::required(path, "must specify a handler type")),
        [_, second, ..] => {
            let text = "may not specify more than 1 handler type";
            errors.push(FieldError::forbidden(format!("{path}.{second}"), text));
        }
        ["exec"] if list(handler, &["exec", "command"]).is_empty() => {
            errors.push(FieldError::required(format!("{path}.exec.command"), ""));
        }
        [kind @ ("httpGet" | "tcpSocket")] => {
            let path = format!("{path}.{kind}.port");
            match &handler[*kind]["port"] {
                Value::String(name) if !names::is_port_name(name) => {
                    errors.push(FieldError::invalid(path, name.as_str(), "must be a port's number or name"));
                }
                number => port_number(number, &path, errors),
            }
        }
        _ => {}
    }
}

fn security(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Some(context) = container.get("securityContext") else { return };
    let path = format!("{path}.securityContext");
    not_negative(context, &path, "runAsUser", errors);
    not_negative(context, &path, "runAsGroup", errors);
    if context["privileged"] == true && context["allowPrivilegeEscalation"] == false {
        let text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.push(FieldError::invalid(path, context.clone(), text));
    }
}

fn one_of(
    object: &Value,
    path: &str,
    field: &str,
    supported: &[&'static str],
    errors: &mut Vec<FieldError>,
) {
    let given = text(object, &[field]);
    if !given.is_empty() && !supported.contains(&given) {
        errors.push(FieldError::unsupported(format!("{path}.{field}"), given, supported));
    }
}

fn not_negative(object: &Value, path: &str, field: &str, errors: &mut Vec<FieldError>) {
    if object[field].as_i64().is_some_and(|number| number < 0) {
        let text = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(format!("{path}.{field}"), object[field].clone(), text));
    }
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
        assert_eq!(fields(&bad), [
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            "spec.containers[0].volumeMounts[0].name: Not found: \"gone\"",
            "spec.containers[1].name: Duplicate value: \"c\"",
            "spec.containers[1].image: Required value",
            "spec.containers[1].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            "spec.containers[1].livenessProbe: Required value: must specify a handler type",
        ]);
    }

    #[test]
    fn quantities() {
        assert_eq!(quantity("1Ki"), Some(1024.0));
        assert_eq!(quantity("500m"), Some(0.5));
        assert_eq!(quantity("1e3"), Some(1000.0));
        assert_eq!((quantity("1Q"), quantity("")), (None, None));
    }
}
