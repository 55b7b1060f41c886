//! The kinds of values that parameters take: what fits, what is normalised, and what "unset" looks like.

use k8s_openapi::api::apps::v1::StatefulSetUpdateStrategy;
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, LocalObjectReference, PodSecurityContext, SecurityContext, Toleration,
};
use regex::Regex;
use serde_json::{Value, json};

use super::error::ValueError;
use super::strict::misfit;
use crate::password::Password;

/// What a parameter may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds, both included.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// Any text, also of several lines.
    Text,
    /// Text without line breaks.
    Line,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, or empty for "unset".
    OptionalWord(&'static [&'static str]),
    /// Several words, such as capabilities.
    Words,
    /// A part of object names and label values.
    NamePart,
    /// The name of an existing object, or empty.
    ObjectName,
    /// An image's repository, without a tag.
    ImageRepository,
    /// An image's tag, or empty.
    ImageTag,
    /// A password that the entrypoint can carry, or empty.
    Password,
    /// An amount of memory in Valkey's units, or empty.
    ValkeyMemory,
    /// A Kubernetes quantity above zero.
    Quantity,
    /// Resource names with quantities.
    Quantities,
    /// Label keys with label values.
    Labels,
    /// Annotation keys with texts.
    Annotations,
    /// `ReadWriteOnce` and its kin, at least one.
    AccessModes,
    /// A number of pods or a percentage; empty for "unset".
    OptionalCountOrPercent,
    /// `imagePullSecrets`.
    PullSecrets,
    /// `updateStrategy` of a StatefulSet.
    UpdateStrategy,
    /// `securityContext` of a pod.
    PodSecurityContext,
    /// `securityContext` of a container.
    ContainerSecurityContext,
    /// `capabilities` of a container.
    Capabilities,
    /// `tolerations` of a pod.
    Tolerations,
    /// `affinity` of a pod.
    Affinity,
}

impl Kind {
    /// What is allowed, in words.
    #[must_use]
    pub fn allowed(self) -> String {
        match self {
            Self::Boolean => "true or false".into(),
            Self::Integer { min, max } if min == max => format!("{min}"),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Text => "a text".into(),
            Self::Line => "a text of one line".into(),
            Self::Word(words) => words.join(", "),
            Self::OptionalWord(words) => format!("\"\", {}", words.join(", ")),
            Self::Words => "a list of words".into(),
            Self::NamePart => "lower-case letters, digits and dashes, beginning with a letter".into(),
            Self::ObjectName => "\"\" or a Kubernetes object name".into(),
            Self::ImageRepository => "an image repository without a tag".into(),
            Self::ImageTag => "\"\" or an image tag".into(),
            Self::Password => "a text that the image's entrypoint carries unchanged".into(),
            Self::ValkeyMemory => "\"\" or an amount in Valkey's units, such as 256mb or 1gb".into(),
            Self::Quantity => "a quantity above zero, such as 8Gi".into(),
            Self::Quantities => "resource names with quantities, such as cpu: 250m or memory: 1Gi".into(),
            Self::Labels => "label keys with label values (texts of at most 63 characters)".into(),
            Self::Annotations => "annotation keys with texts".into(),
            Self::AccessModes => {
                "a list of ReadWriteOnce, ReadOnlyMany, ReadWriteMany, ReadWriteOncePod, at least one".into()
            }
            Self::OptionalCountOrPercent => "\"\", a number of pods, or a percentage such as 50%".into(),
            Self::PullSecrets => "a list of objects with a name".into(),
            Self::UpdateStrategy => "the updateStrategy of a StatefulSet".into(),
            Self::PodSecurityContext => "the securityContext of a pod".into(),
            Self::ContainerSecurityContext => "the securityContext of a container".into(),
            Self::Capabilities => "the capabilities of a container".into(),
            Self::Tolerations => "a list of tolerations".into(),
            Self::Affinity => "an affinity".into(),
        }
    }

    /// The value that a template of the chart takes for "not set", for a key that `null` removed. None where
    /// the rendered field cannot do without a value.
    pub(super) fn unset(self) -> Option<Value> {
        match self {
            Self::Boolean => Some(json!(false)),
            Self::Text
            | Self::Line
            | Self::OptionalWord(_)
            | Self::NamePart
            | Self::ObjectName
            | Self::ImageTag
            | Self::Password
            | Self::ValkeyMemory
            | Self::OptionalCountOrPercent => Some(json!("")),
            Self::Words | Self::PullSecrets | Self::Tolerations => Some(json!([])),
            Self::Quantities
            | Self::Labels
            | Self::Annotations
            | Self::Affinity
            | Self::PodSecurityContext
            | Self::ContainerSecurityContext
            | Self::Capabilities
            | Self::UpdateStrategy => Some(json!({})),
            Self::Integer { .. }
            | Self::Word(_)
            | Self::ImageRepository
            | Self::Quantity
            | Self::AccessModes => None,
        }
    }

    /// Numbers where the chart's templates print a text: `--set image.tag=9` and `cpu: 1` are numbers to YAML.
    pub(super) fn normalise(self, value: &mut Value) {
        let text = |value: &mut Value| {
            if value.is_i64() || value.is_u64() {
                *value = json!(value.to_string());
            }
        };
        match (self, value) {
            (Self::ImageTag | Self::ValkeyMemory | Self::Quantity, value) => text(value),
            (Self::Quantities, Value::Object(map)) => {
                for value in map.values_mut() {
                    if value.is_number() {
                        *value = json!(value.to_string());
                    }
                }
            }
            _ => {}
        }
    }

    /// Everything about `value` that does not fit.
    pub(super) fn problems(self, path: &str, value: &Value) -> Vec<ValueError> {
        let misfits = match self {
            Self::Quantities | Self::Labels | Self::Annotations => return self.entry_problems(path, value),
            Self::PullSecrets => misfit::<Vec<LocalObjectReference>>(value),
            Self::UpdateStrategy => misfit::<StatefulSetUpdateStrategy>(value),
            Self::PodSecurityContext => misfit::<PodSecurityContext>(value),
            Self::ContainerSecurityContext => misfit::<SecurityContext>(value),
            Self::Capabilities => misfit::<Capabilities>(value),
            Self::Tolerations => misfit::<Vec<Toleration>>(value),
            Self::Affinity => misfit::<Affinity>(value),
            Self::Password => return password_problem(path, value).into_iter().collect(),
            _ if self.fits(value) => return Vec::new(),
            _ => return vec![self.problem(path, value)],
        };
        let nested = misfits.map(|(below, allowed)| {
            let problem = ValueError::invalid(&format!("{path}{below}"), value, self.allowed());
            if below.is_empty() {
                problem.with_hint(allowed)
            } else {
                problem.with_hint("no such field")
            }
        });
        nested.into_iter().collect()
    }

    fn problem(self, path: &str, value: &Value) -> ValueError {
        let problem = ValueError::invalid(path, value, self.allowed());
        let takes_text = self.fits(&json!(value.to_string()));
        if !value.is_string() && takes_text {
            return problem.with_hint("put it in quotes");
        }
        let unquoted: Option<Value> = value.as_str().and_then(|text| serde_json::from_str(text).ok());
        match unquoted {
            Some(unquoted) if self.fits(&unquoted) => problem.with_hint("leave the quotes out"),
            _ => self.nearest_word(problem, value),
        }
    }

    fn nearest_word(self, problem: ValueError, value: &Value) -> ValueError {
        let (Self::Word(words) | Self::OptionalWord(words)) = self else {
            return problem;
        };
        let Some(given) = value.as_str() else {
            return problem;
        };
        match super::validation::nearest(given, words.iter().copied()) {
            Some(word) => problem.with_hint(format!("did you mean {word}?")),
            None => problem,
        }
    }

    fn entry_problems(self, path: &str, value: &Value) -> Vec<ValueError> {
        let Value::Object(map) = value else {
            return vec![self.problem(path, value)];
        };
        let fits = |key: &str, value: &Value| match self {
            Self::Labels => is_qualified_name(key) && value.as_str().is_some_and(is_label_value),
            Self::Annotations => is_qualified_name(key) && value.is_string(),
            _ => is_qualified_name(key) && value.as_str().is_some_and(|text| quantity_sign(text).is_some()),
        };
        let misfits = map.iter().filter(|(key, value)| !fits(key, value));
        let problem = |(key, value): (&String, &Value)| {
            let problem = ValueError::invalid(&format!("{path}.{key}"), value, self.allowed());
            if value.is_string() {
                problem
            } else {
                problem.with_hint("put it in quotes")
            }
        };
        misfits.map(problem).collect()
    }

    fn fits(self, value: &Value) -> bool {
        let text = value.as_str();
        let empty = text == Some("");
        match self {
            Self::Boolean => value.is_boolean(),
            Self::Integer { min, max } => value.as_i64().is_some_and(|number| (min..=max).contains(&number)),
            Self::Text => text.is_some_and(|text| !text.contains('\0')),
            Self::Line => text.is_some_and(|text| !text.contains(['\n', '\r', '\0'])),
            Self::Word(words) => text.is_some_and(|text| words.contains(&text)),
            Self::OptionalWord(words) => empty || text.is_some_and(|text| words.contains(&text)),
            Self::Words => value
                .as_array()
                .is_some_and(|list| list.iter().all(Value::is_string)),
            Self::NamePart => empty || matches(text, "^[a-z]([-a-z0-9]*[a-z0-9])?$"),
            Self::ObjectName => empty || matches(text, "^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$"),
            Self::ImageRepository => {
                matches(text, r"^[a-zA-Z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$")
            }
            Self::ImageTag => empty || matches(text, r"^[\w][\w.-]{0,127}$"),
            Self::ValkeyMemory => empty || matches(text, r"(?i)^[0-9]+(b|k|kb|m|mb|g|gb)?$"),
            Self::Quantity => text.and_then(quantity_sign).is_some_and(|sign| sign > 0),
            Self::AccessModes => value
                .as_array()
                .is_some_and(|modes| !modes.is_empty() && modes.iter().all(is_access_mode)),
            Self::OptionalCountOrPercent => {
                empty
                    || value.as_i64().is_some_and(|n| (0..=1000).contains(&n))
                    || matches(text, "^(100|[0-9]{1,2})%$")
            }
            // Judged in `problems`, with a path of their own.
            _ => false,
        }
    }
}

fn password_problem(path: &str, value: &Value) -> Option<ValueError> {
    match value.as_str() {
        Some("") => None,
        Some(text) => Password::parse(text).err().map(|error| {
            ValueError::invalid(path, "a password (not shown)", Kind::Password.allowed())
                .with_hint(error.to_string())
        }),
        // A number reads as a password in YAML without quotes, so it is not shown either.
        None => Some(
            ValueError::invalid(path, "something other than a text", "a text").with_hint("put it in quotes"),
        ),
    }
}

fn matches(text: Option<&str>, pattern: &str) -> bool {
    let pattern = Regex::new(pattern).expect("the pattern is a constant of this file");
    text.is_some_and(|text| pattern.is_match(text))
}

fn is_access_mode(value: &Value) -> bool {
    Kind::Word(&[
        "ReadWriteOnce",
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOncePod",
    ])
    .fits(value)
}

/// `prefix/name` as Kubernetes allows for label and annotation keys.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(|prefix| matches(Some(prefix), "^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$"))
        && matches(Some(name), "^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$")
}

/// A label value: empty, or at most 63 characters.
fn is_label_value(text: &str) -> bool {
    text.is_empty() || matches(Some(text), "^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$")
}

/// The sign of a Kubernetes quantity (grammar of `resource.Quantity`), or None if it is not one.
fn quantity_sign(text: &str) -> Option<i8> {
    let grammar = r"^([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";
    let grammar = Regex::new(grammar).expect("the pattern is a constant of this file");
    let parts = grammar.captures(text)?;
    let zero = parts[2].chars().all(|c| matches!(c, '0' | '.'));
    Some(match (zero, &parts[1]) {
        (true, _) => 0,
        (false, "-") => -1,
        (false, _) => 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_follow_the_kubernetes_grammar() {
        for good in ["8Gi", "0.5", "250m", "1e3", "1E", "+1", ".5Gi"] {
            assert_eq!(quantity_sign(good), Some(1), "{good}");
        }
        for bad in ["", "8GB", "8 Gi", "Gi", "1.2.3", "8gi"] {
            assert_eq!(quantity_sign(bad), None, "{bad}");
        }
        assert_eq!(quantity_sign("-1Gi"), Some(-1));
        assert_eq!(quantity_sign("0.0"), Some(0));
    }

    #[test]
    fn hints_tell_quotes_and_near_words() {
        let hint = |kind: Kind, value: Value| kind.problems("p", &value).remove(0).to_string();
        assert!(hint(Kind::Boolean, json!("true")).contains("leave the quotes out"));
        assert!(hint(Kind::NamePart, json!("Upper")).contains("lower-case"));
        assert!(hint(Kind::Word(&["rpm", "hardened"]), json!("hardend")).contains("did you mean hardened?"));
        assert!(hint(Kind::Labels, json!({"a": 1})).contains("p.a: 1 given"));
    }

    #[test]
    fn a_refused_password_is_not_shown() {
        let problem = Kind::Password
            .problems("auth.password", &json!("se cret"))
            .remove(0)
            .to_string();
        assert!(
            problem.contains("white space") && !problem.contains("se cret"),
            "{problem}"
        );
        let number = Kind::Password
            .problems("auth.password", &json!(12345))
            .remove(0)
            .to_string();
        assert!(!number.contains("12345"), "{number}");
    }
}
