//! The forms of names: DNS labels and subdomains, label keys and values, environment variables.

/// The form of a DNS-1123 subdomain, in Kubernetes' words.
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// The form of a DNS-1123 label, in Kubernetes' words.
pub(super) const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

/// The form of a DNS-1035 label (a Service's name), in Kubernetes' words.
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// The form of a label value, in Kubernetes' words.
pub(super) const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// The form of a label key, in Kubernetes' words.
pub(super) const QUALIFIED_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// The form of a kind's object names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameForm {
    pub(crate) is_valid: fn(&str) -> bool,
    /// The form in Kubernetes' words.
    pub(crate) description: &'static str,
}

/// The form of most kinds' names.
pub(crate) const SUBDOMAIN_FORM: NameForm = NameForm {
    is_valid: is_subdomain,
    description: SUBDOMAIN,
};

/// The form of a namespace's name.
pub(crate) const LABEL_FORM: NameForm = NameForm {
    is_valid: is_label,
    description: LABEL,
};

/// The form of a Service's name.
pub(crate) const LABEL_1035_FORM: NameForm = NameForm {
    is_valid: is_label_1035,
    description: LABEL_1035,
};

/// The form of a role's name.
pub(crate) const PATH_SEGMENT_FORM: NameForm = NameForm {
    is_valid: |name| !name.contains(['/', '%']),
    description: "may not contain '/' or '%'",
};

/// Maximum length of a DNS label and of a label value.
const LABEL_LENGTH: usize = 63;

/// Maximum length of a DNS subdomain.
const SUBDOMAIN_LENGTH: usize = 253;

pub(super) fn is_label(text: &str) -> bool {
    text.len() <= LABEL_LENGTH && is_subdomain_part(text)
}

fn is_label_1035(text: &str) -> bool {
    is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Returns true for a DNS subdomain. Its parts are labels without a length limit.
fn is_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_LENGTH && text.split('.').all(is_subdomain_part)
}

fn is_subdomain_part(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

/// Returns true for `prefix/name` or `name`.
pub(super) fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name_part(name),
        None => is_name_part(text),
    }
}

fn is_name_part(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= LABEL_LENGTH
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Returns true for a valid key of a ConfigMap or Secret.
pub(super) fn is_data_key(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= SUBDOMAIN_LENGTH
        && !matches!(text, "." | "..")
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Returns true for a valid port name: at most 15 of `a-z0-9-`, with a letter.
pub(super) fn is_port_name(text: &str) -> bool {
    is_label(text) && text.len() <= 15 && text.bytes().any(|b| b.is_ascii_lowercase()) && !text.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_label("a-1") && !is_label("A") && !is_label("-a") && !is_label(&"a".repeat(64)));
        assert!(is_subdomain("a.b-c") && !is_subdomain("a..b") && !is_subdomain("a_b") && !is_subdomain(""));
        assert!(is_qualified_name("app.kubernetes.io/name") && !is_qualified_name("a/b/c"));
        assert!(is_label_value("") && is_label_value("A_b.c") && !is_label_value("a b"));
        assert!(is_port_name("cluster-bus") && !is_port_name("1") && !is_port_name("sixteen-letters-"));
    }
}
