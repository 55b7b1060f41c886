//! A defect that one trial shows. Its identifier is equal in all trials and runs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest identifier: users type it into a file of known findings.
const ID_LENGTH: usize = 96;

/// The characters of the random names that Kubernetes generates.
const RANDOM: &str = "bcdfghjklmnpqrstvwxz2456789";

/// Length of such a name.
const RANDOM_LENGTH: usize = 5;

/// The least length of a run of hexadecimal digits that counts as a hash.
const HASH_LENGTH: usize = 8;

/// A defect, as one trial shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Defect {
    /// The identifier, which is equal for the same defect in every trial and run.
    pub id: String,
    /// The kind of defect in a few words, without this trial's objects.
    pub title: String,
    /// The defect, with the objects of this trial.
    pub text: String,
    /// The cause that a rule recognised; absent if only the broken promise is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<RecognisedCause>,
    /// The promises that this trial saw broken by the defect.
    #[serde(default)]
    pub promises: Vec<String>,
    /// The lines that show the defect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

/// A cause as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecognisedCause {
    /// The rule's identifier.
    pub id: String,
    /// The facts that describe it.
    pub fields: BTreeMap<String, serde_json::Value>,
}

/// Returns the identifier of a defect of this kind. `parts` distinguish it from others of the kind.
pub fn identifier(kind: &str, parts: &[&str]) -> String {
    let mut id = kind.to_owned();
    for part in parts {
        let part = slug(&normalised(part));
        if !part.is_empty() {
            id.push(':');
            id.push_str(&part);
        }
    }
    id.truncate(id.floor_char_boundary(ID_LENGTH));
    id.trim_end_matches(['-', ':']).to_owned()
}

/// Returns `text` without the parts that vary per trial: numbers, hashes, random parts of names.
pub fn normalised(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut word = String::new();
    for character in text.chars().chain(std::iter::once(' ')) {
        if character.is_ascii_alphanumeric() {
            word.push(character);
            continue;
        }
        plain.push_str(&normalised_word(&word, plain.ends_with('-')));
        word.clear();
        plain.push(character);
    }
    plain.trim_end().to_owned()
}

fn normalised_word(word: &str, after_dash: bool) -> String {
    let digits = word.bytes().any(|byte| byte.is_ascii_digit());
    let is_hash = word.len() >= HASH_LENGTH && digits && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_random = after_dash && word.len() == RANDOM_LENGTH && word.chars().all(|c| RANDOM.contains(c));
    if is_hash || is_random {
        return "x".to_owned();
    }
    let mut plain = String::new();
    for character in word.chars() {
        match character.is_ascii_digit() {
            true if plain.ends_with('N') => {}
            true => plain.push('N'),
            false => plain.push(character),
        }
    }
    plain
}

/// Returns `text` in lower case, with one dash for each run of other characters than letters and
/// digits.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_hashes_and_random_names_do_not_split_a_defect() {
        let same = [
            ("vk-percona-valkey-0: 3 of 6", "vk-percona-valkey-5: 4 of 8"),
            ("vk-cluster-init-x7k2p", "vk-cluster-init-9zqwm"),
            ("node e40347ec", "node b38c0528"),
            ("address 10.244.0.7", "address 10.1.12.130"),
            ("slots 0-5460", "slots 10923-16383"),
        ];
        for (one, other) in same {
            assert_eq!(normalised(one), normalised(other));
        }
        assert_ne!(normalised("Service vk"), normalised("Service vk-headless"));
        assert_ne!(normalised("vk-cluster-init"), normalised("vk-cluster-scale"));
    }

    #[test]
    fn an_identifier_can_be_typed() {
        assert_eq!(
            identifier(
                "services",
                &["Service vk-percona-valkey", "port valkey on every endpoint"]
            ),
            "services:service-vk-percona-valkey:port-valkey-on-every-endpoint"
        );
        assert_eq!(identifier("keys_are_gone", &[""]), "keys_are_gone");
        let long = "word ".repeat(100);
        let id = identifier("hook_fails", &[&long]);
        assert!(id.len() <= ID_LENGTH && !id.ends_with('-'), "{id}");
    }
}
