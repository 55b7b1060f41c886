//! The kinds of values that parameters take: valid values, normalisation, and the unset value.

use k8s_openapi::api::apps::v1::StatefulSetUpdateStrategy;
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, LocalObjectReference, PodSecurityContext, SecurityContext, Toleration,
};
use serde_json::{Value, json};

use super::error::ValueError;
use super::strict::misfit;
use super::syntax;
use crate::password::Password;

const ACCESS_MODES: [&str; 4] = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", EXCLUSIVE_MODE];
/// The access mode that Kubernetes does not allow next to others.
const EXCLUSIVE_MODE: &str = "ReadWriteOncePod";

/// The kind of value that a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds, both included.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// Any text, also with several lines.
    Text,
    /// Flags that the image's entrypoint passes on unchanged.
    Flags,
    /// Addresses to listen on, or empty.
    Addresses,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, or empty for "unset".
    OptionalWord(&'static [&'static str]),
    /// Names of Linux capabilities.
    CapabilityNames,
    /// A part of object names and label values.
    NamePart,
    /// The name of an existing object, or empty.
    ObjectName,
    /// An image's repository, without a tag.
    ImageRepository,
    /// An image's tag, or empty.
    ImageTag,
    /// A password that the entrypoint passes on unchanged, or empty.
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
    /// At least one of `ReadWriteOnce` and the other access modes.
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

impl ValueKind {
    /// Returns the allowed values, in words.
    #[must_use]
    pub fn allowed(self) -> String {
        match self {
            Self::Boolean => "true or false".into(),
            Self::Integer { min, max } if min == max => format!("{min}"),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Text => "a text".into(),
            Self::Flags => "flags on one line without quotes, backslashes and file name patterns (* ? [)".into(),
            Self::Addresses => "\"\" or IP addresses with a space between them".into(),
            Self::Word(words) => words.join(", "),
            Self::OptionalWord(words) => format!("\"\", {}", words.join(", ")),
            Self::CapabilityNames => "a list of capabilities without CAP_, such as ALL or NET_RAW".into(),
            Self::NamePart => "lower-case letters, digits and dashes, beginning with a letter".into(),
            Self::ObjectName => "\"\" or a Kubernetes object name".into(),
            Self::ImageRepository => "an image repository without a tag".into(),
            Self::ImageTag => "\"\" or an image tag".into(),
            Self::Password => "a text that the image's entrypoint carries unchanged".into(),
            Self::ValkeyMemory => "\"\" or an amount in Valkey's units, such as 256mb or 1gb".into(),
            Self::Quantity => "a quantity above zero, such as 8Gi".into(),
            Self::Quantities => "resource names with quantities of zero or more, such as cpu: 250m or memory: 1Gi".into(),
            Self::Labels => "label keys with label values (texts of at most 63 characters)".into(),
            Self::Annotations => "annotation keys with texts".into(),
            Self::AccessModes => {
                "a list of ReadWriteOnce, ReadOnlyMany, ReadWriteMany, at least one, or ReadWriteOncePod alone".into()
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

    /// Returns the value that the chart's templates take for "not set", for a key that `null`
    /// removed. Returns `None` if the rendered field needs a value.
    pub(super) fn unset(self) -> Option<Value> {
        match self {
            Self::Boolean => Some(json!(false)),
            Self::Text
            | Self::Flags
            | Self::Addresses
            | Self::OptionalWord(_)
            | Self::NamePart
            | Self::ObjectName
            | Self::ImageTag
            | Self::Password
            | Self::ValkeyMemory
            | Self::OptionalCountOrPercent => Some(json!("")),
            Self::CapabilityNames | Self::PullSecrets | Self::Tolerations => Some(json!([])),
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

    /// Turns numbers into text where the chart's templates print text. YAML reads
    /// `--set image.tag=9` and `cpu: 1` as numbers.
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

    /// Returns all problems of `value`.
    pub(super) fn problems(self, path: &str, value: &Value) -> Vec<ValueError> {
        let misfits = match self {
            Self::Quantities | Self::Labels | Self::Annotations => return self.entry_problems(path, value),
            Self::PullSecrets => misfit::<Vec<LocalObjectReference>>(value).or_else(|| nameless(value)),
            Self::UpdateStrategy => misfit::<StatefulSetUpdateStrategy>(value),
            Self::PodSecurityContext => misfit::<PodSecurityContext>(value),
            Self::ContainerSecurityContext => misfit::<SecurityContext>(value),
            Self::Capabilities => misfit::<Capabilities>(value),
            Self::Tolerations => misfit::<Vec<Toleration>>(value).or_else(|| impossible_toleration(value)),
            Self::Affinity => misfit::<Affinity>(value),
            Self::Password => return password_problem(path, value).into_iter().collect(),
            _ if self.fits(value) => return Vec::new(),
            _ => return vec![self.problem(path, value)],
        };
        let nested = misfits.map(|(below, allowed)| {
            let problem = ValueError::invalid(&format!("{path}{below}"), value, self.allowed());
            problem.with_hint(allowed)
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
        let words: Vec<&str> = match self {
            Self::Word(words) | Self::OptionalWord(words) => words.to_vec(),
            Self::AccessModes => ACCESS_MODES.to_vec(),
            Self::CapabilityNames => syntax::capabilities().collect(),
            _ => return problem,
        };
        let given = value
            .as_array()
            .map_or_else(|| vec![value], |list| list.iter().collect());
        let mut misspelt = given
            .into_iter()
            .filter_map(Value::as_str)
            .filter(|word| !words.contains(word));
        let word = misspelt.find_map(|given| {
            super::validation::nearest(given.trim_start_matches("CAP_"), words.iter().copied())
        });
        match word {
            Some(word) => problem.with_hint(format!("did you mean {word}?")),
            None => problem,
        }
    }

    fn entry_problems(self, path: &str, value: &Value) -> Vec<ValueError> {
        let Value::Object(map) = value else {
            return vec![self.problem(path, value)];
        };
        let fits = |key: &str, value: &Value| match self {
            Self::Labels => {
                syntax::is_qualified_name(key) && value.as_str().is_some_and(syntax::is_label_value)
            }
            Self::Annotations => syntax::is_qualified_name(key) && value.is_string(),
            _ => {
                let amount = value.as_str().and_then(syntax::quantity);
                syntax::is_qualified_name(key) && amount.is_some_and(|amount| amount >= 0.0)
            }
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
            Self::Flags => text.is_some_and(syntax::are_flags),
            Self::Addresses => empty || text.is_some_and(syntax::are_addresses),
            Self::Word(words) => text.is_some_and(|text| words.contains(&text)),
            Self::OptionalWord(words) => empty || text.is_some_and(|text| words.contains(&text)),
            Self::CapabilityNames => {
                is_list_of(value, |name| syntax::capabilities().any(|known| known == name))
            }
            Self::NamePart => empty || text.is_some_and(syntax::is_name_part),
            Self::ObjectName => empty || text.is_some_and(syntax::is_object_name),
            Self::ImageRepository => text.is_some_and(syntax::is_image_repository),
            Self::ImageTag => empty || text.is_some_and(syntax::is_image_tag),
            Self::ValkeyMemory => empty || text.is_some_and(syntax::is_valkey_memory),
            Self::Quantity => text.and_then(syntax::quantity).is_some_and(|amount| amount > 0.0),
            Self::AccessModes => {
                let alone = |modes: &Vec<Value>| modes.len() == 1 || !modes.contains(&json!(EXCLUSIVE_MODE));
                is_list_of(value, |mode| ACCESS_MODES.contains(&mode))
                    && value
                        .as_array()
                        .is_some_and(|modes| !modes.is_empty() && alone(modes))
            }
            Self::OptionalCountOrPercent => {
                empty
                    || value.as_i64().is_some_and(|n| (0..=1000).contains(&n))
                    || text.is_some_and(syntax::is_percentage)
            }
            // `problems` checks these, each with its own path.
            _ => false,
        }
    }
}

fn password_problem(path: &str, value: &Value) -> Option<ValueError> {
    match value.as_str() {
        Some("") => None,
        Some(text) => Password::parse(text).err().map(|error| {
            ValueError::invalid(path, "a password (not shown)", ValueKind::Password.allowed())
                .with_hint(error.to_string())
        }),
        // A password of digits reads as a number in YAML without quotes, so it is hidden too.
        None => Some(
            ValueError::invalid(path, "something other than a text", "a text").with_hint("put it in quotes"),
        ),
    }
}

/// Returns the problem of a reference without a name.
fn nameless(references: &Value) -> Option<(String, String)> {
    let named = |item: &Value| item["name"].as_str().is_some_and(syntax::is_object_name);
    let index = references.as_array()?.iter().position(|item| !named(item))?;
    Some((format!("[{index}].name"), "the name of a Secret".to_owned()))
}

/// Returns the API server's objection to tolerations of the right type.
fn impossible_toleration(tolerations: &Value) -> Option<(String, String)> {
    let words = |item: &Value, field: &str, words: &[&str]| {
        item[field]
            .as_str()
            .is_some_and(|word| !words.contains(&word))
            .then(|| words.join(" or "))
    };
    tolerations
        .as_array()?
        .iter()
        .enumerate()
        .find_map(|(index, item)| {
            let exists = item["operator"] == "Exists";
            let (field, allowed) = if let Some(allowed) = words(item, "operator", &["Exists", "Equal"]) {
                ("operator", allowed)
            } else if let Some(allowed) =
                words(item, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"])
            {
                ("effect", allowed)
            } else if exists && item["value"].as_str().is_some_and(|value| !value.is_empty()) {
                ("value", "no value where the operator is Exists".to_owned())
            } else if !exists && item["key"].as_str().unwrap_or_default().is_empty() {
                ("key", "a key, unless the operator is Exists".to_owned())
            } else if !item["tolerationSeconds"].is_null() && item["effect"] != "NoExecute" {
                ("tolerationSeconds", "only with the effect NoExecute".to_owned())
            } else {
                return None;
            };
            Some((format!("[{index}].{field}"), allowed))
        })
}

fn is_list_of(value: &Value, fits: impl Fn(&str) -> bool) -> bool {
    value
        .as_array()
        .is_some_and(|list| list.iter().all(|item| item.as_str().is_some_and(&fits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_tell_quotes_and_near_words() {
        let hint = |kind: ValueKind, value: Value| kind.problems("p", &value).remove(0).to_string();
        assert!(hint(ValueKind::Boolean, json!("true")).contains("leave the quotes out"));
        assert!(hint(ValueKind::NamePart, json!("Upper")).contains("lower-case"));
        assert!(
            hint(ValueKind::Word(&["rpm", "hardened"]), json!("hardend")).contains("did you mean hardened?")
        );
        assert!(hint(ValueKind::Labels, json!({"a": 1})).contains("p.a: 1 given"));
    }

    #[test]
    fn a_refused_password_is_not_shown() {
        let problem = ValueKind::Password
            .problems("auth.password", &json!("se cret"))
            .remove(0)
            .to_string();
        assert!(
            problem.contains("white space") && !problem.contains("se cret"),
            "{problem}"
        );
        let number = ValueKind::Password
            .problems("auth.password", &json!(12345))
            .remove(0)
            .to_string();
        assert!(!number.contains("12345"), "{number}");
    }
}
