//! Refusals of the API server and of `helm`. Only this module parses their text into typed facts.

use serde::{Deserialize, Serialize};

use wait::terminal_state::TooLong;

/// Maximum characters of a shown reason. The output of `helm` may contain a whole script.
const LENGTH: usize = 400;

/// The prefix of the line with `helm`'s reason.
const HELM_ERROR: &str = "Error: ";

/// Messages of the API server about immutable fields.
const IMMUTABLE: [&str; 4] = [
    "field is immutable",
    "updates to statefulset spec for fields other than",
    "may not be changed once set",
    "field can not be changed",
];

/// A refusal, with its reason on one line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The object, as `Kind name`, where the refusal names it.
    pub object: Option<String>,
    /// The field, where the refusal names it.
    pub field: Option<String>,
    /// True if the change of an immutable field was refused.
    pub immutable: bool,
    /// The name or label that is too long, if that is the reason.
    pub too_long: Option<TooLong>,
    /// The original reason, without the refused value.
    pub reason: String,
}

impl Refusal {
    /// Reads the answer of the API server.
    pub fn of_api(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::read(&status.message),
            other => Self {
                reason: other.to_string(),
                ..Self::default()
            },
        }
    }

    /// Reads a message of `helm` or of the API server.
    pub fn read(said: &str) -> Self {
        let reason = reason_of(said);
        let (object, field) = invalid(said);
        Self {
            immutable: IMMUTABLE.iter().any(|saying| said.contains(saying)),
            too_long: TooLong::read(said),
            object,
            field,
            reason,
        }
    }
}

/// Extracts the reason from `helm`'s output, without the refused value, which may be a whole
/// script.
fn reason_of(said: &str) -> String {
    let own = said
        .rfind(HELM_ERROR)
        .filter(|at| *at == 0 || said[..*at].ends_with('\n'));
    let text = own.map_or(said, |at| &said[at + HELM_ERROR.len()..]);
    let text = without_value(text);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LENGTH {
        return line;
    }
    // The innermost cause is last.
    let skipped = line.chars().count() - LENGTH / 2;
    let (head, tail): (String, String) = (
        line.chars().take(LENGTH / 2).collect(),
        line.chars().skip(skipped).collect(),
    );
    format!("{head} … {tail}")
}

/// Returns `text` without an `Invalid value` longer than a line. The value precedes the reason.
fn without_value(text: &str) -> String {
    const MARK: &str = "Invalid value: ";
    let Some((before, after)) = text.split_once(MARK) else {
        return text.to_owned();
    };
    if after.len() <= LENGTH {
        return text.to_owned();
    }
    let reason = after.rsplit_once(": ").map_or(after, |(_, reason)| reason);
    format!("{before}{MARK}…: {reason}")
}

/// Extracts object and field from `Kind.group "name" is invalid: field: …`.
fn invalid(said: &str) -> (Option<String>, Option<String>) {
    let Some((before, after)) = said.split_once(" is invalid: ") else {
        return (None, None);
    };
    let object = before
        .trim_end_matches('"')
        .rsplit_once('"')
        .and_then(|(kind, name)| {
            let kind = kind.trim_end().rsplit([' ', '\n']).next()?.split('.').next()?;
            Some(format!("{kind} {name}"))
        });
    let field = after
        .split(':')
        .next()
        .map(|field| field.trim_start_matches('[').trim().to_owned());
    (
        object,
        field.filter(|field| !field.is_empty() && !field.contains(' ')),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_immutable_field_is_named_without_the_refused_script() {
        let script = "echo forming\n".repeat(4_000);
        let said = format!(
            "Error: UPGRADE FAILED: cannot patch \"vk-cluster-init\" with kind Job: Job.batch \"vk-cluster-init\" is invalid: \
             spec.template: Invalid value: {{\"Spec\":{{\"Command\":[\"{script}\"]}}}}: field is immutable"
        );
        let refusal = Refusal::read(&said);
        assert!(refusal.immutable);
        assert_eq!(refusal.object.as_deref(), Some("Job vk-cluster-init"));
        assert_eq!(refusal.field.as_deref(), Some("spec.template"));
        assert!(refusal.reason.len() < 2 * LENGTH, "{}", refusal.reason.len());
        assert!(
            refusal.reason.starts_with("UPGRADE FAILED: cannot patch")
                && refusal.reason.ends_with("field is immutable"),
            "{}",
            refusal.reason
        );
    }

    #[test]
    fn a_stateful_sets_forbidden_update_is_immutable() {
        let said = "StatefulSet.apps \"vk\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than \
                    'replicas', 'ordinals', 'template' are forbidden";
        let refusal = Refusal::read(said);
        assert!(refusal.immutable);
        assert_eq!(
            (refusal.object.as_deref(), refusal.field.as_deref()),
            (Some("StatefulSet vk"), Some("spec"))
        );
    }

    #[test]
    fn helms_own_reason_is_taken_from_the_end_of_what_it_prints() {
        let said = "install.go:218: [debug] Original chart version\nsomething of a script\nError: INSTALLATION FAILED: \
                    template: valkey/templates/statefulset.yaml:3:5: nil pointer evaluating interface {}.x";
        let refusal = Refusal::read(said);
        assert!(
            refusal
                .reason
                .starts_with("INSTALLATION FAILED: template: valkey"),
            "{}",
            refusal.reason
        );
        assert!(!refusal.immutable && refusal.object.is_none());
    }

    #[test]
    fn a_name_that_is_too_long_is_told_with_its_length() {
        let name = "v".repeat(66);
        let said = format!(
            "Service \"{name}\" is invalid: metadata.name: Invalid value: \"{name}\": must be no more than 63 characters"
        );
        let long = Refusal::read(&said).too_long.expect("it is too long");
        assert_eq!(
            (long.value.len(), long.limit, long.field.as_deref()),
            (66, 63, Some("metadata.name"))
        );
    }
}
