//! Probes and lifecycle hooks.

use serde_json::Value;

use super::form::{not_negative, port_number};
use super::names;
use crate::api::object::list;
use crate::api::status::FieldError;

/// Reports errors in the container's probe of this `kind`.
pub(super) fn probe(probe: &Value, path: &str, kind: &str, errors: &mut Vec<FieldError>) {
    handler(probe, path, errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        not_negative(probe, path, field, errors);
    }
    if kind != "readinessProbe" && probe["successThreshold"].as_i64().is_some_and(|n| n > 1) {
        let value = probe["successThreshold"].clone();
        errors.push(FieldError::invalid(
            format!("{path}.successThreshold"),
            value,
            "must be 1",
        ));
    }
}

/// Reports errors in the handler of a probe or hook.
pub(super) fn handler(handler: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let kinds = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
    let given: Vec<&str> = kinds
        .into_iter()
        .filter(|kind| handler.get(*kind).is_some())
        .collect();
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
                    errors.push(FieldError::invalid(
                        path,
                        name.as_str(),
                        "must be a port's number or name",
                    ));
                }
                number => port_number(number, &path, errors),
            }
        }
        _ => {}
    }
}
