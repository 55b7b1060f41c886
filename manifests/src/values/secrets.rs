//! The user's values that may be secret. Reports omit every such value. Values with a secret's name
//! are also removed from all other output.

use serde_json::{Map, Value};

use super::chart_values::{below, undocumented};
use super::kind::ValueKind;
use super::parameters::find;
use super::set::{self, Assignment};

/// Directives of `valkey.conf` and flags of the server that take a password.
const PASSWORD_DIRECTIVES: [&str; 5] = [
    "requirepass",
    "masterauth",
    "primaryauth",
    "tls-key-file-pass",
    "tls-client-key-file-pass",
];

/// Words in the names of keys that mark a chart's secrets.
const SECRET_KEYS: [&str; 5] = ["password", "passwd", "secret", "token", "credential"];

/// Returns a `--set` argument with `hidden` in place of every value that may be secret. Those are
/// free text among the README's parameters, and all but booleans among a chart's own.
#[must_use]
pub fn without_secrets(argument: &str, hidden: &str) -> String {
    let Ok(assignments) = set::assignments(argument) else {
        return hidden.to_owned();
    };
    let characters: Vec<char> = argument.chars().collect();
    let shown = assignments.iter().map(|assignment| {
        let end = if may_be_shown(assignment) {
            assignment.place.end
        } else {
            assignment.value_at
        };
        let text: String = characters[assignment.place.start..end].iter().collect();
        let hidden = if end == assignment.place.end { "" } else { hidden };
        format!("{text}{hidden}")
    });
    shown.collect::<Vec<_>>().join(",")
}

fn may_be_shown(assignment: &Assignment) -> bool {
    let unset = assignment.value.as_str().is_some_and(str::is_empty) || assignment.value.is_null();
    if unset || assignment.value.is_boolean() {
        return true;
    }
    let keys = assignment.keys();
    let ends = keys.match_indices('.').map(|(end, _)| end).chain([keys.len()]);
    let mut parameters = ends
        .filter_map(|end| find(&keys[..end]))
        .filter(|parameter| parameter.in_readme);
    parameters
        .next()
        .is_some_and(|parameter| !is_free(parameter.kind))
}

/// Returns true if a value of this kind may be any text, and so a password.
fn is_free(kind: ValueKind) -> bool {
    matches!(
        kind,
        ValueKind::Password | ValueKind::Flags | ValueKind::Text | ValueKind::Annotations
    )
}

/// Returns every text in the given values that is a password, or has a secret's name.
#[must_use]
pub fn secrets_in(given: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let text = |section: &str, key: &str| given[section][key].as_str().unwrap_or_default().to_owned();
    found.push(text("auth", "password"));
    for key in ["extraFlags", "customConfig"] {
        found.extend(directives_passwords(&text("config", key)));
    }
    if let Value::Object(others) = undocumented(given) {
        called_secret("", &others, &mut found);
    }
    found.retain(|secret| !secret.is_empty());
    found
}

/// Returns the word after each directive or flag that takes a password.
fn directives_passwords(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let named =
        |word: &str| PASSWORD_DIRECTIVES.contains(&word.trim_start_matches('-').to_lowercase().as_str());
    words
        .windows(2)
        .filter(|pair| named(pair[0]))
        .map(|pair| pair[1].trim_matches(['"', '\'']).to_owned())
        .collect()
}

/// Collects the texts with a secret's name in their path. The name of a Secret does not count.
fn called_secret(path: &str, table: &Map<String, Value>, found: &mut Vec<String>) {
    for (key, value) in table {
        let path = below(path, key);
        let lower = path.to_lowercase();
        let names_one = key.starts_with("existing") || key.ends_with("Name") || key.ends_with("Key");
        match value {
            Value::Object(inner) => called_secret(&path, inner, found),
            Value::String(text) if !names_one && SECRET_KEYS.iter().any(|word| lower.contains(word)) => {
                found.push(text.clone());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("mode=cluster,cluster.replicas=8", "mode=cluster,cluster.replicas=8")]
    #[case("auth.password=hunter2,mode=cluster", "auth.password=*,mode=cluster")]
    #[case("auth.password=", "auth.password=")]
    #[case(r"auth.password=a\,b,auth.enabled=true", "auth.password=*,auth.enabled=true")]
    #[case("config.extraFlags=--masterauth hunter2", "config.extraFlags=*")]
    #[case("podAnnotations.a=hunter2", "podAnnotations.a=*")]
    #[case(
        "metrics.enabled=true,metrics.port=9121",
        "metrics.enabled=true,metrics.port=*"
    )]
    #[case(
        "extraEnv[0].name=A,extraEnv[0].value=hunter2",
        "extraEnv[0].name=*,extraEnv[0].value=*"
    )]
    #[case("image.pullSecrets[0].name=registry", "image.pullSecrets[0].name=registry")]
    #[case(r"nodeSelector.a\.b/c=db", r"nodeSelector.a\.b/c=db")]
    #[case(
        "securityContext.seLinuxOptions.user=x",
        "securityContext.seLinuxOptions.user=*"
    )]
    #[case(
        "persistence.accessModes={ReadWriteOnce},mode=cluster",
        "persistence.accessModes={ReadWriteOnce},mode=cluster"
    )]
    #[case("not an assignment hunter2", "*")]
    fn what_could_be_a_secret_is_not_repeated(#[case] argument: &str, #[case] shown: &str) {
        assert_eq!(without_secrets(argument, "*"), shown);
    }

    #[test]
    fn passwords_and_secrets_are_found_among_settings() {
        let given = json!({
            "config": {"customConfig": "maxclients 9\nmasterauth \"for-primaries\"\n",
                "extraFlags": "--requirepass as-a-flag --hz 10"},
            "auth": {"password": "for-clients"},
            "metrics": {"password": "for-metrics", "existingSecret": "a-name", "image": "exporter"},
        });
        let expected = ["for-clients", "as-a-flag", "for-primaries", "for-metrics"];
        assert_eq!(secrets_in(&given), expected);
        assert_eq!(secrets_in(&Value::Null), [""; 0]);
    }
}
