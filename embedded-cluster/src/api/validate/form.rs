//! Checks that many fields share.

use serde_json::Value;

use crate::api::object::text;
use crate::api::status::FieldError;

/// Reports a number that is not a port.
pub(super) fn port_number(value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if value
        .as_i64()
        .is_some_and(|number| !(1..=65535).contains(&number))
    {
        errors.push(FieldError::invalid(
            path,
            value.clone(),
            "must be between 1 and 65535, inclusive",
        ));
    }
}

/// Reports a field that is present but has none of the supported values.
pub(super) fn one_of(
    object: &Value,
    path: &str,
    field: &str,
    supported: &[&'static str],
    errors: &mut Vec<FieldError>,
) {
    let given = text(object, &[field]);
    if !given.is_empty() && !supported.contains(&given) {
        errors.push(FieldError::unsupported(
            format!("{path}.{field}"),
            given,
            supported,
        ));
    }
}

/// Reports a negative field.
pub(super) fn not_negative(object: &Value, path: &str, field: &str, errors: &mut Vec<FieldError>) {
    if object[field].as_i64().is_some_and(|number| number < 0) {
        let text = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(
            format!("{path}.{field}"),
            object[field].clone(),
            text,
        ));
    }
}
