//! Every rendered name and label is valid in Kubernetes, whatever the release's name. Otherwise
//! nothing is rendered, and the error names the invalid one.

use manifests::{Hook, Password, Release, RenderError, Values, ValuesInput, render};
use proptest::prelude::*;
use serde_json::Value;

/// Kubernetes' limit for label values and DNS labels, and therefore for most names.
const LIMIT: usize = 63;
/// Length of the suffix in the label of a StatefulSet's pods: a dash and the revision's hash.
const REVISION_SUFFIX: usize = 11;

fn is_dns_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=LIMIT).contains(&name.len())
        && name.chars().all(|c| inner(c) || c == '-')
        && name.starts_with(inner)
        && name.ends_with(inner)
}

fn is_label_value(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || (text.len() <= LIMIT
            && text.chars().all(|c| inner(c) || "-_.".contains(c))
            && text.starts_with(inner)
            && text.ends_with(inner))
}

/// Returns the invalid name or label of an object, if any.
fn refused(object: &Value) -> Option<String> {
    let name = object["metadata"]["name"].as_str().expect("a name");
    let kind = object["kind"].as_str().expect("a kind");
    let fits = match kind {
        "Service" => is_dns_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()),
        "StatefulSet" => is_dns_label(name) && name.len() + REVISION_SUFFIX <= LIMIT,
        "Job" => is_dns_label(name),
        _ => name.len() <= 253 && name.split('.').all(|part| !part.is_empty()) && !name.ends_with('-'),
    };
    if !fits {
        return Some(format!("{kind} {name}"));
    }
    let mut labels = Vec::new();
    collect_labels(object, &mut labels);
    labels.into_iter().find(|label| !is_label_value(label))
}

fn collect_labels(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                if matches!(key.as_str(), "labels" | "matchLabels" | "selector") {
                    let texts = field
                        .as_object()
                        .into_iter()
                        .flatten()
                        .filter_map(|(_, label)| label.as_str());
                    found.extend(texts.map(str::to_owned));
                }
                collect_labels(field, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_labels(item, found)),
        _ => {}
    }
}

fn rendered(release: &str, values: &Values) -> Result<Vec<Value>, RenderError> {
    let release =
        Release::install(release, "prod").with_password(Password::parse("password").expect("valid"));
    let manifests = render(&release, values)?;
    Ok(manifests
        .objects()
        .into_iter()
        .chain(manifests.hooks.iter().map(Hook::to_value))
        .collect())
}

fn values(mode: &str, name: &str, fullname: &str) -> Values {
    let input = ValuesInput::new().set(format!("mode={mode}"));
    let input = input
        .set(format!("nameOverride={name}"))
        .set(format!("fullnameOverride={fullname}"));
    input.resolve().expect("the strategies make valid values")
}

proptest! {
    #[test]
    fn what_is_rendered_has_names_that_kubernetes_takes(
        release in "[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?",
        name in "([a-z]([-a-z0-9]{0,70}[a-z0-9])?)?",
        fullname in "([a-z]([-a-z0-9]{0,70}[a-z0-9])?)?",
        mode in "standalone|cluster",
    ) {
        let values = values(&mode, &name, &fullname);
        match rendered(&release, &values) {
            Ok(objects) => {
                for object in &objects {
                    prop_assert_eq!(refused(object), None);
                }
            }
            Err(RenderError::Names { names }) => prop_assert!(!names.is_empty()),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

/// A full name is refused from the length at which Kubernetes would refuse it. In standalone mode
/// the revision label sets the limit, in cluster mode the scale Job's name.
#[test]
fn every_length_of_a_full_name_is_decided_as_kubernetes_would() {
    for (mode, longest) in [("standalone", 52), ("cluster", 49)] {
        for length in 1..=80 {
            let values = values(mode, "", &"a".repeat(length));
            let fits = rendered("r", &values).is_ok();
            assert_eq!(fits, length <= longest, "{mode}, {length} characters");
        }
    }
}
