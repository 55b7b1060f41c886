//! Which of the values that a person sets could be a secret. Nothing that could is repeated in a report, and what is
//! called one is removed from everything else that is written down.

use serde_json::{Map, Value};

use super::kind::Kind;
use super::overrides::{Overrides, below};
use super::parameters::find;
use super::set::{self, Assignment};

/// Directives of `valkey.conf`, and flags of the server, whose argument is a password.
const PASSWORD_DIRECTIVES: [&str; 5] = [
    "requirepass",
    "masterauth",
    "primaryauth",
    "tls-key-file-pass",
    "tls-client-key-file-pass",
];

/// What keys are called below which a chart of its own has secrets.
const SECRET_KEYS: [&str; 5] = ["password", "passwd", "secret", "token", "credential"];

/// An argument of `--set` with `hidden` in the place of every value that could be a secret: of the README's parameters
/// those that are free text, and of a chart's own everything but booleans.
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

/// Whether anything can stand in a value of this kind, a password too.
fn is_free(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Password | Kind::Flags | Kind::Text | Kind::Annotations
    )
}

impl Overrides {
    /// Every text among what was set that is a password, or is called a secret.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let mut found = Vec::new();
        let text = |section: &str, key: &str| {
            let text = self
                .documented
                .get(section)
                .and_then(|section| section[key].as_str());
            text.unwrap_or_default().to_owned()
        };
        found.push(text("auth", "password"));
        for key in ["extraFlags", "customConfig"] {
            found.extend(directives_passwords(&text("config", key)));
        }
        called_secret("", &self.others, &mut found);
        found.retain(|secret| !secret.is_empty());
        found
    }
}

/// The word after each directive, or flag, whose argument is a password.
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

/// Texts whose path says that they are secrets. The name of a Secret is none.
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

    use super::*;
    use crate::values::ValuesInput;

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
    fn passwords_and_what_is_called_a_secret_are_found_among_what_was_set() {
        let input = ValuesInput::new()
            .file(
                "f",
                "config: {customConfig: \"maxclients 9\\nmasterauth \\\"for-primaries\\\"\\n\"}\n\
                 metrics: {password: for-metrics, existingSecret: a-name, image: exporter}\n",
            )
            .set("auth.password=for-clients,config.extraFlags=--requirepass as-a-flag --hz 10");
        let overrides = Overrides::new(&input).expect("well-formed");
        assert_eq!(
            overrides.secrets(),
            ["for-clients", "as-a-flag", "for-primaries", "for-metrics"]
        );
        assert_eq!(Overrides::default().secrets(), [""; 0]);
    }
}
