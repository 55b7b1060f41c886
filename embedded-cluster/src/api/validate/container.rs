//! One container of a pod: ports, environment, mounts, resources, security.

use std::collections::BTreeSet;

use serde_json::Value;

use super::form::{not_negative, one_of, port_number};
use super::{handlers, names};
use crate::api::object::{at, list, text};
use crate::api::status::FieldError;
use crate::quantity::Amount;

/// Returns errors in a container of the list `field`, which may mount these volumes.
pub(super) fn container(
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
    one_of(
        container,
        path,
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
        errors,
    );
    one_of(
        container,
        path,
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
        errors,
    );
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
        let Some(value) = container.get(probe).filter(|value| value.is_object()) else {
            continue;
        };
        if field == "initContainers" && !sidecar {
            let text = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(format!("{path}.{probe}"), text));
        }
        handlers::probe(value, &format!("{path}.{probe}"), probe, errors);
    }
    for hook in ["postStart", "preStop"] {
        if let Some(value) = at(container, &["lifecycle", hook]) {
            handlers::handler(value, &format!("{path}.lifecycle.{hook}"), errors);
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
        let Some(from) = env.get("valueFrom").and_then(Value::as_object) else {
            continue;
        };
        if !text(env, &["value"]).is_empty() {
            let text = "may not be specified when `value` is not empty";
            errors.push(FieldError::invalid(format!("{path}.valueFrom"), "", text));
        }
        if from.len() != 1 {
            let text =
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
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
            // Kubernetes reports this error as "Not found".
            errors.push(FieldError::not_found(format!("{path}.name"), name));
        }
        if target.is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        } else if !seen.insert(target) {
            errors.push(FieldError::invalid(
                format!("{path}.mountPath"),
                target,
                "must be unique",
            ));
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
            if Amount::parse(amount).is_none_or(|amount| amount < Amount::ZERO) {
                let text = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$' and not be negative";
                errors.push(FieldError::invalid(
                    format!("{path}.resources.{which}.{resource}"),
                    amount,
                    text,
                ));
            }
        }
        let limits = |name: &str| Amount::parse(text(container, &["resources", "limits", name]));
        for (resource, amount) in amounts.into_iter().flatten().filter(|_| which == "requests") {
            let amount = amount.as_str().unwrap_or_default();
            if let (Some(asked), Some(limit)) = (Amount::parse(amount), limits(resource))
                && asked > limit
            {
                let text = format!(
                    "must be less than or equal to {resource} limit of {}",
                    text(container, &["resources", "limits", resource])
                );
                errors.push(FieldError::invalid(
                    format!("{path}.resources.requests"),
                    amount,
                    text,
                ));
            }
        }
    }
}

fn security(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Some(context) = container.get("securityContext") else {
        return;
    };
    let path = format!("{path}.securityContext");
    not_negative(context, &path, "runAsUser", errors);
    not_negative(context, &path, "runAsGroup", errors);
    if context["privileged"] == true && context["allowPrivilegeEscalation"] == false {
        let text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.push(FieldError::invalid(path, context.clone(), text));
    }
}
