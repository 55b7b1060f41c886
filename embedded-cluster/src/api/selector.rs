//! Label and field selectors: parsing and matching.
//!
//! Grammar: Kubernetes reference, "Labels and Selectors" (equality- and set-based) and "Field
//! Selectors".

use serde_json::Value;

use super::kinds::ResourceKind;
use super::object;
use super::status::ApiError;

/// Both selectors of a list, watch or deletecollection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

impl Selector {
    /// Parses the `labelSelector` and `fieldSelector` of a request for objects of `kind`.
    pub(crate) fn parse(kind: &ResourceKind, labels: &str, fields: &str) -> Result<Self, ApiError> {
        Ok(Self {
            labels: parse_labels(labels)?,
            fields: parse_fields(kind, fields)?,
        })
    }

    /// Returns true if every object is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Returns true if the object is selected.
    pub(crate) fn matches(&self, value: &Value) -> bool {
        self.labels.iter().all(|requirement| requirement.matches(value))
            && self.fields.iter().all(|requirement| requirement.matches(value))
    }
}

#[derive(Clone, Debug, PartialEq)]
struct LabelRequirement {
    key: String,
    test: LabelTest,
}

#[derive(Clone, Debug, PartialEq)]
enum LabelTest {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Above(i64),
    Below(i64),
}

impl LabelRequirement {
    fn matches(&self, value: &Value) -> bool {
        let label = value
            .get("metadata")
            .and_then(|m| m.get("labels"))
            .and_then(|l| l.get(&self.key));
        let label = label.and_then(Value::as_str);
        match &self.test {
            LabelTest::In(values) => label.is_some_and(|l| values.iter().any(|v| v == l)),
            LabelTest::NotIn(values) => label.is_none_or(|l| values.iter().all(|v| v != l)),
            LabelTest::Exists => label.is_some(),
            LabelTest::DoesNotExist => label.is_none(),
            LabelTest::Above(bound) => number(label).is_some_and(|n| n > *bound),
            LabelTest::Below(bound) => number(label).is_some_and(|n| n < *bound),
        }
    }
}

fn number(label: Option<&str>) -> Option<i64> {
    label.and_then(|l| l.parse().ok())
}

fn parse_labels(text: &str) -> Result<Vec<LabelRequirement>, ApiError> {
    split_outside_parentheses(text)
        .into_iter()
        .map(parse_label_requirement)
        .collect()
}

fn parse_label_requirement(text: &str) -> Result<LabelRequirement, ApiError> {
    let bad = || {
        ApiError::bad_request(format!(
            "unable to parse requirement: invalid label selector {text:?}"
        ))
    };
    let requirement = |key: &str, test| {
        let key = key.trim();
        let valid = !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
        if valid {
            Ok(LabelRequirement {
                key: key.to_owned(),
                test,
            })
        } else {
            Err(bad())
        }
    };
    if let Some((head, list)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        let values = list.split(',').map(|v| v.trim().to_owned()).collect();
        let head = head.trim();
        if let Some(key) = head.strip_suffix(" notin") {
            return requirement(key, LabelTest::NotIn(values));
        }
        return head
            .strip_suffix(" in")
            .ok_or_else(bad)
            .and_then(|key| requirement(key, LabelTest::In(values)));
    }
    let value = |v: &str| vec![v.trim().to_owned()];
    if let Some((key, v)) = text.split_once("!=") {
        requirement(key, LabelTest::NotIn(value(v)))
    } else if let Some((key, v)) = text.split_once("==").or_else(|| text.split_once('=')) {
        requirement(key, LabelTest::In(value(v)))
    } else if let Some((key, v)) = text.split_once('>') {
        requirement(key, LabelTest::Above(v.trim().parse().map_err(|_| bad())?))
    } else if let Some((key, v)) = text.split_once('<') {
        requirement(key, LabelTest::Below(v.trim().parse().map_err(|_| bad())?))
    } else if let Some(key) = text.strip_prefix('!') {
        requirement(key, LabelTest::DoesNotExist)
    } else {
        requirement(text, LabelTest::Exists)
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

#[derive(Clone, Debug, PartialEq)]
struct FieldRequirement {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl FieldRequirement {
    fn matches(&self, object: &Value) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let found = match object::at(object, &path) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => default_of(&path).to_owned(),
            Some(other) => other.to_string(),
        };
        (found == self.value) == self.equal
    }
}

/// Returns the value that an absent field counts as.
fn default_of(path: &[&str]) -> &'static str {
    match path {
        ["spec", "unschedulable" | "hostNetwork"] => "false",
        ["status", "successful"] => "0",
        _ => "",
    }
}

/// Returns the field labels of a kind, apart from `metadata.name` and `metadata.namespace`.
fn supported_fields(kind: &ResourceKind) -> &'static [&'static str] {
    match (kind.group, kind.plural) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("" | "events.k8s.io", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "reason",
            "reportingComponent",
            "reportingController",
            "source",
            "type",
        ],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("batch", "jobs") => &["status.successful"],
        _ => &[],
    }
}

fn parse_fields(kind: &ResourceKind, text: &str) -> Result<Vec<FieldRequirement>, ApiError> {
    let mut requirements = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value, equal) = if let Some((key, value)) = part.split_once("!=") {
            (key, value, false)
        } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (key, value, true)
        } else {
            return Err(ApiError::bad_request(format!(
                "unable to parse field selector: invalid selector: {part:?}; can't understand {part:?}"
            )));
        };
        if !matches!(key, "metadata.name" | "metadata.namespace") && !supported_fields(kind).contains(&key) {
            return Err(ApiError::bad_request(format!(
                "Unable to find {:?} that match label selector \"\", field selector {text:?}: field label not supported: {key}",
                kind.api_version() + ", Resource=" + kind.plural,
            )));
        }
        requirements.push(FieldRequirement {
            path: storage_path(key),
            value: value.to_owned(),
            equal,
        });
    }
    Ok(requirements)
}

/// Returns the path of a field label. Labels are paths, but events are stored in their `v1` form.
fn storage_path(key: &str) -> Vec<String> {
    let key = match key {
        "source" => "source.component".to_owned(),
        "reportingController" => "reportingComponent".to_owned(),
        "status.successful" => "status.succeeded".to_owned(),
        other => other.replacen("regarding.", "involvedObject.", 1),
    };
    key.split('.').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::kinds::find;

    fn matches(labels: &str, fields: &str) -> bool {
        let pods = find("", "v1", "pods").expect("pods are served");
        let pod = json!({"metadata": {"name": "a", "labels": {"app": "web", "tier": "2"}},
            "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        Selector::parse(pods, labels, fields)
            .expect("a valid selector")
            .matches(&pod)
    }

    #[test]
    fn label_requirements() {
        for selector in [
            "",
            "app",
            "app=web",
            "app==web",
            "app in (web, db)",
            "!gone",
            "gone notin (a)",
            "x!=y",
            "tier>1",
        ] {
            assert!(matches(selector, ""), "{selector}");
        }
        for selector in [
            "gone",
            "app=db",
            "app!=web",
            "app notin (web)",
            "!app",
            "app=web,tier=3",
            "tier<2",
        ] {
            assert!(!matches(selector, ""), "{selector}");
        }
    }

    #[test]
    fn field_requirements() {
        assert!(matches(
            "",
            "metadata.name=a,spec.nodeName=n,status.phase!=Failed"
        ));
        assert!(!matches("", "spec.nodeName="));
        assert!(matches("", "status.podIP="));
    }

    #[test]
    fn unsupported_selectors_are_bad_requests() {
        let pods = find("", "v1", "pods").expect("pods are served");
        for (labels, fields) in [
            ("a in (b", ""),
            ("=x", ""),
            ("", "spec.foo=1"),
            ("", "metadata.name"),
        ] {
            let error = Selector::parse(pods, labels, fields).expect_err("refused");
            assert_eq!(error.code, 400, "{labels} {fields}");
        }
    }
}
