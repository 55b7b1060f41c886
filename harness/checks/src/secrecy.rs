//! The password is in a Secret and nowhere else, complete and unchanged: read from rendered
//! objects.
//!
//! References (`secretKeyRef`, volumes of Secrets) and checksums do not hold the password, so they
//! are no violations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Violation;

/// The check's name.
pub const NAME: &str = "secrecy";

/// Finds fields outside of Secrets that hold `password`, in plain text or base64. The password must
/// be one that does not occur by chance.
pub fn outside_of_secrets(objects: &[Value], password: &str) -> Vec<Violation> {
    let encoded = STANDARD.encode(password);
    let mut violations = Vec::new();
    for object in objects.iter().filter(|object| object["kind"] != "Secret") {
        let mut found = Vec::new();
        walk(object, &mut String::new(), &mut |path, text| {
            if text.contains(password) || text.contains(&encoded) {
                found.push(path.to_owned());
            }
        });
        violations.extend(found.into_iter().map(|path| {
            let seen = format!("it is in {path}");
            Violation::new(
                NAME,
                subject(object),
                "the password in a Secret and nowhere else",
                seen,
            )
        }));
    }
    violations
}

/// Returns true if a Secret holds `password` as one of its values.
pub fn is_kept(objects: &[Value], password: &str) -> bool {
    let secrets = objects.iter().filter(|object| object["kind"] == "Secret");
    let mut values = secrets.flat_map(values_of);
    values.any(|(_, value)| value == Ok(password.to_owned()))
}

/// Finds Secrets with a value that is no text, such as a password of digits rendered without
/// quotes.
pub fn no_texts(objects: &[Value]) -> Vec<Violation> {
    let secrets = objects.iter().filter(|object| object["kind"] == "Secret");
    let values = secrets.flat_map(|secret| values_of(secret).into_iter().map(move |value| (secret, value)));
    values
        .filter_map(|(secret, (key, value))| {
            let seen = value.err()?;
            let expected = format!("{key} to be text for a password of digits");
            Some(Violation::new(NAME, subject(secret), expected, seen))
        })
        .collect()
}

/// Returns the values of a Secret by path, decoded. A value that is no text yields its JSON type.
fn values_of(secret: &Value) -> Vec<(String, Result<String, String>)> {
    let mut values = Vec::new();
    for field in ["data", "stringData"] {
        for (key, value) in secret[field].as_object().into_iter().flatten() {
            let text = match value {
                Value::String(text) => Ok(text.clone()),
                Value::Number(_) => Err("a number".to_owned()),
                Value::Bool(_) => Err("a boolean".to_owned()),
                _ => continue,
            };
            let text = text.map(|text| match field {
                "data" => decoded(&text),
                _ => text,
            });
            values.push((format!("{field}.{key}"), text));
        }
    }
    values
}

/// Decodes base64. Bytes that are no text yield an empty string, as no given password has such
/// bytes.
fn decoded(text: &str) -> String {
    let bytes = STANDARD.decode(text).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Calls `found` with the path and content of every text in a tree, keys of maps included.
pub(super) fn walk(value: &Value, path: &mut String, found: &mut impl FnMut(&str, &str)) {
    let length = path.len();
    match value {
        Value::String(text) => found(path, text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                // The name of a container is clearer than its index.
                match item["name"].as_str() {
                    Some(name) => path.push_str(&format!("[{name}]")),
                    None => path.push_str(&format!("[{index}]")),
                }
                walk(item, path, found);
                path.truncate(length);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
                found(path, key);
                walk(field, path, found);
                path.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Renders an object as its kind and name.
pub(super) fn subject(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or("object");
    format!(
        "{kind} {}",
        object["metadata"]["name"].as_str().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PASSWORD: &str = "Qz7mB2xK9wLr4TnV";

    fn pod(container: &Value) -> Value {
        json!({"kind": "StatefulSet", "metadata": {"name": "vk"},
               "spec": {"template": {"spec": {"containers": [container]}}}})
    }

    fn found(object: Value) -> String {
        let objects = [object];
        let violations = outside_of_secrets(&objects, PASSWORD);
        assert_eq!(violations.len(), 1, "{violations:#?}");
        format!("{}: {}", violations[0].subject, violations[0].seen)
    }

    #[test]
    fn references_secrets_and_checksums_hold_no_password() {
        let correct = [
            json!({"kind": "Secret", "metadata": {"name": "vk", "annotations": {"note": PASSWORD}},
                   "stringData": {"valkey-password": PASSWORD, "users.acl": format!("user default on >{PASSWORD}")}}),
            pod(&json!({"name": "valkey", "env": [
                {"name": "VALKEY_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "vk", "key": "valkey-password"}}},
                {"name": "VALKEY_EXTRA_FLAGS", "value": "--masterauth $(VALKEY_PASSWORD)"}],
                "livenessProbe": {"exec": {"command": ["sh", "-c", "valkey-cli -a \"$VALKEY_PASSWORD\" ping"]}}})),
            json!({"kind": "StatefulSet", "metadata": {"name": "vk"}, "spec": {"template": {
                "metadata": {"annotations": {"checksum/secret": "b5d4045c3f466fa91fe2cc6abe79232a1a57cdf1"}},
                "spec": {"volumes": [{"name": "auth", "projected": {"sources": [{"secret": {"name": "vk"}}]}}]}}}}),
        ];
        assert_eq!(outside_of_secrets(&correct, PASSWORD), []);
        assert!(is_kept(&correct, PASSWORD));
        assert_eq!(no_texts(&correct), []);
    }

    #[test]
    fn every_place_outside_of_secrets_is_named() {
        let probe = pod(&json!({"name": "valkey",
            "livenessProbe": {"exec": {"command": ["valkey-cli", "-a", PASSWORD, "ping"]}}}));
        assert_eq!(
            found(probe),
            "StatefulSet vk: it is in spec.template.spec.containers[valkey].livenessProbe.exec.command[2]"
        );
        let env = pod(&json!({"name": "valkey", "env": [{"name": "REDISCLI_AUTH", "value": PASSWORD}]}));
        assert_eq!(
            found(env),
            "StatefulSet vk: it is in spec.template.spec.containers[valkey].env[REDISCLI_AUTH].value"
        );
        let config = json!({"kind": "ConfigMap", "metadata": {"name": "vk"},
            "data": {"valkey.conf": format!("port 6379\nrequirepass {PASSWORD}\n")}});
        assert_eq!(found(config), "ConfigMap vk: it is in data.valkey.conf");
        let encoded = json!({"kind": "Service", "metadata": {"name": "vk",
            "annotations": {"password": STANDARD.encode(PASSWORD)}}});
        assert_eq!(
            found(encoded),
            "Service vk: it is in metadata.annotations.password"
        );
        let script = json!({"kind": "Job", "metadata": {"name": "vk-init"}, "spec": {"template": {"spec": {"containers": [
            {"name": "init", "args": [format!("valkey-cli -a {PASSWORD} --cluster create")]}]}}}});
        assert_eq!(
            found(script),
            "Job vk-init: it is in spec.template.spec.containers[init].args[0]"
        );
    }

    #[test]
    fn a_password_of_digits_that_becomes_a_number_is_named() {
        let secret = |value: Value| json!({"kind": "Secret", "metadata": {"name": "vk"}, "stringData": {"valkey-password": value}});
        let violations = no_texts(&[secret(json!(12_345_678))]);
        assert_eq!(
            violations[0].to_string(),
            "secrecy: Secret vk: expected stringData.valkey-password to be text for a password of digits, saw a number"
        );
        assert!(is_kept(&[secret(json!("12345678"))], "12345678"));
        assert!(!is_kept(&[secret(json!(12_345_678))], "12345678"));
        let encoded = json!({"kind": "Secret", "metadata": {"name": "vk"}, "data": {"valkey-password": STANDARD.encode("12345678")}});
        assert!(is_kept(&[encoded], "12345678"));
    }
}
