//! The fields in which two renderings differ, each with the object's role and the field's path.
//!
//! List elements are identified by name if each has one (containers, variables, volumes, ports).
//! Otherwise they are identified by position. An example:
//! `spec.template.spec.containers[valkey].env[VALKEY_BIND].value`.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::objects::Objects;

/// A field that differs. An empty path stands for the whole object, which one side lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The object's role, or `ValueKind/name`.
    pub object: String,
    /// The field's path.
    pub path: String,
    /// The field's value on the first side, if it exists.
    pub before: Option<Value>,
    /// The field's value on the second side.
    pub after: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            path,
            before,
            after,
        } = self;
        let space = if path.is_empty() { "" } else { " " };
        match (path.is_empty(), before, after) {
            (true, None, _) => write!(f, "{object}: only in the second"),
            (true, _, None) => write!(f, "{object}: only in the first"),
            _ => write!(
                f,
                "{object}{space}{path}: {} -> {}",
                shown(before.as_ref()),
                shown(after.as_ref())
            ),
        }
    }
}

/// Formats a value for people: compact JSON, or a note that there is none.
#[must_use]
pub fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), Value::to_string)
}

/// Returns every difference, by object and path.
#[must_use]
pub fn differences(before: &Objects, after: &Objects) -> Vec<Difference> {
    let roles: BTreeSet<&str> = before.roles().chain(after.roles()).collect();
    let mut found = Vec::new();
    for role in roles {
        let mut add = |path: &str, before: Option<&Value>, after: Option<&Value>| {
            found.push(Difference {
                object: role.to_owned(),
                path: path.trim_start_matches('.').to_owned(),
                before: before.cloned(),
                after: after.cloned(),
            });
        };
        compare("", before.get(role), after.get(role), &mut add);
    }
    found
}

type Add<'a> = dyn FnMut(&str, Option<&Value>, Option<&Value>) + 'a;

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, add: &mut Add<'_>) {
    match (before, after) {
        (one, other) if one == other => {}
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                compare(&format!("{path}{}", step(key)), one.get(key), other.get(key), add);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => compare_lists(path, one, other, add),
        _ => add(path, before, after),
    }
}

fn compare_lists(path: &str, one: &[Value], other: &[Value], add: &mut Add<'_>) {
    if let (Some(names), Some(other_names)) = (names(one), names(other)) {
        let element = |list: &'_ [Value], names: &[&str], name: &str| {
            names
                .iter()
                .position(|candidate| *candidate == name)
                .map(|index| list[index].clone())
        };
        let all: BTreeSet<&str> = names.iter().chain(&other_names).copied().collect();
        for name in all {
            let (before, after) = (element(one, &names, name), element(other, &other_names, name));
            compare(&format!("{path}[{name}]"), before.as_ref(), after.as_ref(), add);
        }
        return;
    }
    for index in 0..one.len().max(other.len()) {
        compare(&format!("{path}[{index}]"), one.get(index), other.get(index), add);
    }
}

/// Returns the elements' names, if each has one.
fn names(list: &[Value]) -> Option<Vec<&str>> {
    let names: Vec<&str> = list.iter().map(name_of).collect::<Option<_>>()?;
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    (distinct.len() == names.len()).then_some(names)
}

/// Returns the name of a list's element; claim templates carry it in their metadata.
pub(super) fn name_of(item: &Value) -> Option<&str> {
    item.get("name")
        .or_else(|| item.pointer("/metadata/name"))?
        .as_str()
}

/// Returns one step of a path: keys other than plain words are put in brackets.
fn step(key: &str) -> String {
    let plain = key
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if plain {
        format!(".{key}")
    } else {
        format!("[{key}]")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown_differences(before: &Value, after: &Value) -> Vec<String> {
        let objects = |spec: &Value| {
            Objects::new([json!({"kind": "StatefulSet", "metadata": {"name": "vk"}, "spec": spec})])
        };
        differences(&objects(before), &objects(after))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn named_elements_are_compared_by_name_and_others_by_position() {
        let before =
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["x", "y"]});
        let after = json!({"env": [{"name": "B", "value": "3"}, {"name": "A", "value": "1"}], "args": ["x"]});
        assert_eq!(
            shown_differences(&before, &after),
            [
                "StatefulSet spec.args[1]: \"y\" -> absent",
                "StatefulSet spec.env[B].value: \"2\" -> \"3\""
            ]
        );
    }

    #[test]
    fn a_field_that_one_side_lacks_is_told_whole() {
        let after = json!({"matchLabels": {"app.kubernetes.io/name": "x"}});
        assert_eq!(
            shown_differences(&json!({"a": 1}), &json!({"a": 1, "selector": after})),
            ["StatefulSet spec.selector: absent -> {\"matchLabels\":{\"app.kubernetes.io/name\":\"x\"}}"]
        );
        assert_eq!(
            shown_differences(
                &json!({"matchLabels": {"app.kubernetes.io/name": "y"}}),
                &json!({"matchLabels": {"app.kubernetes.io/name": "x"}})
            ),
            ["StatefulSet spec.matchLabels[app.kubernetes.io/name]: \"y\" -> \"x\""]
        );
    }

    #[test]
    fn an_object_that_one_side_lacks_is_one_difference() {
        let one = Objects::new([json!({"kind": "Secret", "metadata": {"name": "vk"}})]);
        let found = differences(&one, &Objects::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "Secret: only in the first");
    }
}
