//! Finds passwords in Kubernetes objects, so that nothing that is written contains them. A chart
//! may keep its password under any key or in a config file within a Secret. A chart may also,
//! wrongly, put it into an environment variable or an argument.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Password;

/// Parts of a key or of a variable's name that mark its value as secret.
const SECRET_KEY_PARTS: [&str; 7] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "credential",
    "private",
    "cli_auth",
];

/// Directives of Valkey and options of its tools that precede a password.
const DIRECTIVES: [&str; 6] = ["requirepass", "masterauth", "primaryauth", "--pass", "-a", "auth"];

/// Parts of a variable's name that mark its value as a password's location or property.
const PLACES: [&str; 7] = ["file", "path", "name", "key", "length", "enabled", "secret"];

/// Values of variables such as `ALLOW_EMPTY_PASSWORD`.
const NO_PASSWORD: [&str; 8] = [
    "true", "false", "yes", "none", "null", "default", "required", "optional",
];

/// Minimum length of a password. Shorter texts occur everywhere, so replacing them hides nothing.
const SHORTEST: usize = 4;

/// Minimum length of a Secret's value that looks like a password under any key. The value must also
/// have letters and digits.
const TELLING_LENGTH: usize = 8;

/// Returns the passwords in an object of any kind.
pub fn passwords_in(object: &Value) -> Vec<Password> {
    let mut found = Vec::new();
    if object["kind"] == "Secret" && object["type"] != "helm.sh/release.v1" {
        secret_values(object, &mut found);
    } else {
        elsewhere(object, &mut found);
    }
    found.sort();
    found.dedup();
    found
        .into_iter()
        .filter(|text| text.len() >= SHORTEST)
        .map(Password::new)
        .collect()
}

fn secret_values(secret: &Value, found: &mut Vec<String>) {
    let encoded = secret["data"].as_object().into_iter().flatten();
    let decoded = encoded.filter_map(|(key, value)| {
        let bytes = STANDARD.decode(value.as_str()?).ok()?;
        Some((key.as_str(), String::from_utf8(bytes).ok()?))
    });
    let plain = secret["stringData"].as_object().into_iter().flatten();
    let plain = plain.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?.to_owned())));
    for (key, value) in decoded.chain(plain) {
        let text = value.trim_end_matches(['\n', '\r']);
        if text.contains('\n') {
            in_config(text, found);
        } else if tells(key) || looks_secret(text) {
            found.push(text.to_owned());
        } else {
            in_config(text, found);
        }
    }
}

/// Searches where no password should be: environment variables, arguments, and ConfigMaps.
fn elsewhere(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => in_config(text, found),
        Value::Array(items) => {
            in_arguments(items, found);
            items.iter().for_each(|item| elsewhere(item, found));
        }
        Value::Object(fields) => {
            if let (Some(name), Some(value)) = (value["name"].as_str(), value["value"].as_str())
                && is_variable_of_password(name)
                && !NO_PASSWORD.contains(&value)
                && !stands_for_another(value)
            {
                found.push(value.to_owned());
            }
            fields.values().for_each(|field| elsewhere(field, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Finds `--requirepass X` as two arguments.
fn in_arguments(items: &[Value], found: &mut Vec<String>) {
    for pair in items.windows(2) {
        if let (Some(option), Some(value)) = (pair[0].as_str(), pair[1].as_str())
            && is_directive(option)
        {
            keep(value, found);
        }
    }
}

/// Finds `requirepass X` and `user default on >X` in the lines of a configuration or a script.
fn in_config(text: &str, found: &mut Vec<String>) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            if is_directive(pair[0]) {
                keep(pair[1], found);
            }
        }
        if words.first() == Some(&"user") {
            words
                .iter()
                .filter_map(|word| word.strip_prefix('>'))
                .for_each(|word| keep(word, found));
        }
    }
}

/// Keeps a value that looks secret, unless it is a variable, a template or a path.
fn keep(value: &str, found: &mut Vec<String>) {
    let value = value.trim_matches(['"', '\'', ';', ',']);
    if !stands_for_another(value) && looks_secret(value) {
        found.push(value.to_owned());
    }
}

fn stands_for_another(value: &str) -> bool {
    value.starts_with(['$', '{', '/', '<', '-', '#', '(']) || value.contains("$(")
}

fn is_variable_of_password(name: &str) -> bool {
    // The `key` in `valkey` does not make a name a key.
    let name = name.to_lowercase().replace("valkey", "");
    let of_password = ["pass", "pwd", "cli_auth"].iter().any(|part| name.contains(part));
    of_password && !PLACES.iter().any(|part| name.contains(part))
}

fn is_directive(word: &str) -> bool {
    let word = word.trim_matches(['"', '\'']);
    DIRECTIVES.contains(&word)
        || word
            .strip_prefix("--")
            .is_some_and(|word| DIRECTIVES[..3].contains(&word))
}

fn tells(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET_KEY_PARTS.iter().any(|part| key.contains(part))
}

/// Returns true if text is more than a word. Hiding each `default` or `appendonly` would destroy
/// the evidence.
fn looks_secret(text: &str) -> bool {
    text.len() >= TELLING_LENGTH
        && !text.contains(char::is_whitespace)
        && text
            .chars()
            .any(|c| c.is_ascii_digit() || (c.is_ascii_punctuation() && !"-_./:".contains(c)))
        && text.chars().any(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(object: &Value) -> Vec<String> {
        passwords_in(object)
            .iter()
            .map(|one| one.expose().to_owned())
            .collect()
    }

    #[test]
    fn a_secret_tells_its_passwords_under_any_key_and_in_any_form() {
        let secret = json!({"kind": "Secret", "data": {
            "valkey-password": STANDARD.encode("test\n"),
            "default": STANDARD.encode("hunter22x"),
            "username": STANDARD.encode("default"),
            "users.acl": STANDARD.encode("user default on >Acl-Pa55word ~* +@all\nuser x off\n"),
            "valkey.conf": STANDARD.encode("maxmemory 100mb\nrequirepass Conf1g-Passw0rd\n"),
        }, "stringData": {"token": "abcdef"}});
        assert_eq!(
            found(&secret),
            ["Acl-Pa55word", "Conf1g-Passw0rd", "abcdef", "hunter22x", "test"]
        );
    }

    #[test]
    fn a_password_in_the_wrong_place_is_found_too() {
        let pod = json!({"kind": "Pod", "spec": {"containers": [{
            "env": [
                {"name": "VALKEY_PASSWORD", "value": "plain"},
                {"name": "VALKEY_EXTRA", "value": "--requirepass In-Env-0"},
            ],
            "args": ["--requirepass", "In-Args-1", "--port", "6379"],
            "command": ["sh", "-c", "valkey-cli -a In-Script-2 ping"],
        }]}});
        assert_eq!(found(&pod), ["In-Args-1", "In-Env-0", "In-Script-2", "plain"]);
    }

    #[test]
    fn what_stands_for_a_password_or_is_none_is_left_alone() {
        let pod = json!({"kind": "Pod", "spec": {"containers": [{
            "args": ["--requirepass", "$(VALKEY_PASSWORD)", "--masterauth", "${P}"],
            "command": ["sh", "-c", "valkey-cli -a \"$VALKEY_PASSWORD\" auth default"],
            "env": [
                {"name": "PORT", "value": "6379"},
                {"name": "ALLOW_EMPTY_PASSWORD", "value": "true"},
                {"name": "PASSWORD_SECRET_NAME", "value": "vk-percona-valkey"},
                {"name": "PASSWORD_FILE", "value": "/secrets/password"},
            ],
            "image": "docker.io/x/valkey:9.0.3",
        }]}});
        assert_eq!(found(&pod), Vec::<String>::new());
        let helm = json!({"kind": "Secret", "type": "helm.sh/release.v1", "data": {"release": STANDARD.encode("H4sIAAAA1")}});
        assert_eq!(found(&helm), Vec::<String>::new());
    }
}
