//! Services.

use std::collections::BTreeSet;

use serde_json::Value;

use super::form::port_number;
use super::names;
use crate::api::object::{at, list, text};
use crate::api::status::FieldError;
use crate::api::unsupported;

/// Returns errors in a Service.
pub(crate) fn check(service: &Value) -> Vec<FieldError> {
    let ports = list(service, &["spec", "ports"]);
    let mut errors = Vec::new();
    let headless = text(service, &["spec", "clusterIP"]) == "None";
    if ports.is_empty() && !headless && text(service, &["spec", "type"]) != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    let (mut seen_names, mut seen_numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = text(port, &["name"]);
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !name.is_empty() && !names::is_label(name) {
            errors.push(FieldError::invalid(format!("{path}.name"), name, names::LABEL));
        } else if !name.is_empty() && !seen_names.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        port_number(&port["port"], &format!("{path}.port"), &mut errors);
        if port["port"].as_i64().unwrap_or(0) == 0 {
            errors.push(FieldError::invalid(
                format!("{path}.port"),
                0,
                "must be between 1 and 65535, inclusive",
            ));
        }
        match &port["targetPort"] {
            Value::String(name) if !names::is_port_name(name) => {
                let text = "must be a port's number or name";
                errors.push(FieldError::invalid(
                    format!("{path}.targetPort"),
                    name.as_str(),
                    text,
                ));
            }
            number => port_number(number, &format!("{path}.targetPort"), &mut errors),
        }
        if !seen_numbers.insert((port["port"].as_i64(), text(port, &["protocol"]))) {
            errors.push(FieldError::duplicate(path, port.clone()));
        }
    }
    errors.extend(unsupported::service(service));
    errors
}

/// Returns errors in a changed Service. Its address is immutable.
pub(crate) fn update(old: &Value, new: &Value) -> Vec<FieldError> {
    let had = text(old, &["spec", "clusterIP"]);
    let has = text(new, &["spec", "clusterIP"]);
    if had.is_empty() || had == has {
        return Vec::new();
    }
    let value = at(new, &["spec", "clusterIPs"])
        .cloned()
        .unwrap_or_else(|| has.into());
    vec![FieldError::invalid(
        "spec.clusterIPs[0]",
        value,
        "may not change once set",
    )]
}
