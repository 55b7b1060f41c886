//! ConfigMaps, Secrets, claims and disruption budgets.

use serde_json::Value;

use super::{names, selector};
use crate::api::object::{self, at, list, text};
use crate::api::status::FieldError;
use crate::api::unsupported;
use crate::quantity::Amount;

/// The most data an object may hold, in bytes.
const MAX_DATA: usize = 1024 * 1024;

/// The form of a key, in Kubernetes' words.
const KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// Returns errors in the keys and the size of a ConfigMap or Secret.
pub(crate) fn keys(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object.get(field).and_then(Value::as_object).into_iter().flatten() {
            if !names::is_data_key(key) {
                errors.push(FieldError::invalid(format!("{field}[{key}]"), key.as_str(), KEY));
            }
            size += value.as_str().map_or(0, str::len);
        }
    }
    if size > MAX_DATA {
        errors.push(FieldError::too_long("data", MAX_DATA));
    }
    errors
}

/// Returns errors in a changed ConfigMap or Secret.
pub(crate) fn immutable(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object::text(old, &["type"]) != object::text(new, &["type"]) {
        errors.extend(super::immutable(old, new, &["type"]));
    }
    if old["immutable"] == true {
        if new["immutable"] != true {
            let text = "field is immutable when `immutable` is set";
            errors.push(FieldError::forbidden("immutable", text));
        }
        for field in ["data", "binaryData"] {
            if old.get(field) != new.get(field) {
                let text = "field is immutable when `immutable` is set";
                errors.push(FieldError::forbidden(field, text));
            }
        }
    }
    errors
}

/// Returns errors in a claim's spec at `path`.
pub(crate) fn claim(spec: &Value, path: &str) -> Vec<FieldError> {
    const MODES: [&str; 4] = [
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOnce",
        "ReadWriteOncePod",
    ];
    let mut errors = Vec::new();
    let modes = list(spec, &["accessModes"]);
    if modes.is_empty() {
        errors.push(FieldError::required(
            format!("{path}.accessModes"),
            "at least 1 access mode is required",
        ));
    }
    for mode in modes
        .iter()
        .filter_map(Value::as_str)
        .filter(|mode| !MODES.contains(mode))
    {
        errors.push(FieldError::unsupported(
            format!("{path}.accessModes"),
            mode,
            &MODES,
        ));
    }
    match text(spec, &["resources", "requests", "storage"]) {
        "" => errors.push(FieldError::required(format!("{path}.resources[storage]"), "")),
        amount if Amount::parse(amount).is_none_or(|amount| amount <= Amount::ZERO) => {
            let text = "must be greater than zero";
            errors.push(FieldError::invalid(
                format!("{path}.resources[storage]"),
                amount,
                text,
            ));
        }
        _ => {}
    }
    errors.extend(unsupported::claim(spec, path));
    errors
}

/// Returns errors in a changed claim. Its size may grow, and an unset volume or storage class may
/// be set.
pub(crate) fn claim_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let fixed = |claim: &Value| {
        let mut spec = claim["spec"].clone();
        object::remove(&mut spec, "resources");
        object::remove(&mut spec, "volumeAttributesClassName");
        spec
    };
    let (before, mut after) = (fixed(old), fixed(new));
    for field in ["volumeName", "storageClassName"] {
        if before.get(field).is_none() {
            object::remove(&mut after, field);
        }
    }
    let size = |claim| {
        at(claim, &["spec", "resources", "requests", "storage"])
            .and_then(Value::as_str)
            .and_then(Amount::parse)
    };
    if before != after {
        let text = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        return vec![FieldError::forbidden("spec", text)];
    }
    if size(new) < size(old) {
        let text = "field can not be less than status.capacity";
        return vec![FieldError::forbidden("spec.resources.requests.storage", text)];
    }
    Vec::new()
}

/// Returns errors in a disruption budget's spec.
pub(crate) fn disruption_budget(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec.get("minAvailable").is_some() && spec.get("maxUnavailable").is_some() {
        let text = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid("spec", spec.clone(), text));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        match spec.get(field) {
            Some(Value::Number(number)) if number.as_i64().is_some_and(|n| n < 0) => {
                let text = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(
                    format!("spec.{field}"),
                    number.as_i64(),
                    text,
                ));
            }
            Some(Value::String(text)) if !is_percentage(text) => {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                errors.push(FieldError::invalid(format!("spec.{field}"), text.as_str(), why));
            }
            _ => {}
        }
    }
    errors.extend(selector::check(&spec["selector"], "spec.selector"));
    errors
}

fn is_percentage(text: &str) -> bool {
    text.strip_suffix('%')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}
