//! Label selectors inside objects (`spec.selector`).

use serde_json::Value;

use crate::api::object::{list, text};
use crate::api::status::FieldError;

/// Returns true if the selector has no requirements and so selects nothing.
pub(super) fn is_empty(selector: &Value) -> bool {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    labels.is_none_or(serde_json::Map::is_empty) && list(selector, &["matchExpressions"]).is_empty()
}

/// Returns errors in a selector's form.
pub(super) fn check(selector: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, expression) in list(selector, &["matchExpressions"]).iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let values = list(expression, &["values"]);
        match text(expression, &["operator"]) {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                format!("{path}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if values.is_empty() => {}
            "Exists" | "DoesNotExist" => errors.push(FieldError::forbidden(
                format!("{path}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            other => errors.push(FieldError::invalid(
                format!("{path}.operator"),
                other,
                "not a valid selector operator",
            )),
        }
    }
    errors
}

/// Returns true if the selector selects these labels.
pub(crate) fn matches(selector: &Value, labels: &Value) -> bool {
    let equal = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    equal
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && list(selector, &["matchExpressions"]).iter().all(|expression| {
            let label = labels.get(text(expression, &["key"]));
            let listed = label.is_some_and(|label| list(expression, &["values"]).contains(label));
            match text(expression, &["operator"]) {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => label.is_some(),
                _ => label.is_none(),
            }
        })
}

/// Returns errors in a controller's selector and its template's labels.
pub(super) fn of_template(spec: &Value) -> Vec<FieldError> {
    let selector = &spec["selector"];
    if is_empty(selector) {
        let text = "empty selector is invalid";
        return vec![FieldError::invalid("spec.selector", selector.clone(), text)];
    }
    let errors = check(selector, "spec.selector");
    let labels = spec
        .pointer("/template/metadata/labels")
        .cloned()
        .unwrap_or_default();
    if errors.is_empty() && !matches(selector, &labels) {
        let text = "`selector` does not match template `labels`";
        return vec![FieldError::invalid("spec.template.metadata.labels", labels, text)];
    }
    errors
}
