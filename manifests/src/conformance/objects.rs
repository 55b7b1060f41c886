//! Rendered objects by role, without fields that have no effect.
//!
//! A role is the object's kind, with the name's suffix if the chart has several of that kind.
//! Examples: `Service`, `Service headless`, `Job cluster-init`. An object therefore keeps its role
//! when a parameter renames it. `valkey.conf` is split into directives, and Secrets are decoded, so
//! that both are compared by content.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde_json::{Map, Value};

use super::{canonical, defaults};

/// Roles that the suffix of the object's name determines.
const SUFFIXES: [(&str, &str); 5] = [
    ("Service", "headless"),
    ("Job", "cluster-init"),
    ("Job", "cluster-scale"),
    ("Job", "cluster-drain"),
    ("Pod", "test-connection"),
];

/// Kinds with one object in the chart, without a suffix.
const SINGLE: [&str; 6] = [
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "Service",
    "StatefulSet",
];

/// The ConfigMap's key with `valkey.conf`, which is split into directives.
const CONFIG_KEY: &str = "valkey.conf";

/// Directives whose lines add up.
const ADDED_UP: [&str; 6] = [
    "rename-command",
    "save",
    "user",
    "include",
    "loadmodule",
    "client-output-buffer-limit",
];

/// Rendered objects by role.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects(BTreeMap<String, Value>);

impl Objects {
    /// Sorts `rendered` by role. Objects without a role, or with a role that is taken, are called
    /// `ValueKind/name`. Of several objects for one role, the one with `valkey.conf` gets it, or
    /// else the one with the StatefulSet's name.
    pub fn new(rendered: impl IntoIterator<Item = Value>) -> Self {
        let mut rendered: Vec<Value> = rendered.into_iter().collect();
        let name = |object: &Value| object["metadata"]["name"].as_str().map(str::to_owned);
        let servers = rendered
            .iter()
            .find(|object| object["kind"] == "StatefulSet")
            .and_then(name);
        rendered.sort_by_key(|object| {
            let configures = object["data"].get(CONFIG_KEY).is_some();
            let is_namesake = servers.is_some() && name(object) == servers;
            (!configures, !is_namesake)
        });
        let mut objects = BTreeMap::new();
        for object in rendered {
            let mut name = role(&object);
            if objects.contains_key(&name) {
                name = kind_and_name(&object);
            }
            let object = normalised(&name, object);
            objects.insert(name, object);
        }
        Self(objects)
    }

    /// Returns the roles, in alphabetical order.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the object with this role.
    #[must_use]
    pub fn get(&self, role: &str) -> Option<&Value> {
        self.0.get(role)
    }
}

/// Returns true if objects with this role are part of what the chart's README describes.
#[must_use]
pub fn is_documented(role: &str) -> bool {
    let tool = SUFFIXES
        .iter()
        .any(|(kind, suffix)| role == format!("{kind} {suffix}"));
    (tool && role != super::case::DRAIN) || SINGLE.contains(&role)
}

fn role(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let suffix = SUFFIXES.iter().find(|(of, suffix)| {
        *of == kind && name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('-'))
    });
    match suffix {
        Some((_, suffix)) => format!("{kind} {suffix}"),
        None if SINGLE.contains(&kind) => kind.to_owned(),
        None => kind_and_name(object),
    }
}

fn kind_and_name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("(nameless)").to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

fn normalised(role: &str, mut object: Value) -> Value {
    canonical::rename(role, &mut object);
    match object["kind"].as_str() {
        Some("ConfigMap") => {
            if let Some(text) = object["data"][CONFIG_KEY].as_str() {
                let directives = directives(text);
                object["data"][CONFIG_KEY] = directives;
            }
        }
        Some("Secret") => decode(&mut object),
        Some("StatefulSet") => untype_claims(&mut object),
        _ => {}
    }
    defaults::strip(&mut object);
    prune(&mut object);
    object
}

/// Returns `valkey.conf` as a table of each directive's arguments. The last line of a directive
/// counts, as for the server, unless its lines add up to a list.
fn directives(text: &str) -> Value {
    let mut table: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let lines = text.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        table.entry(name).or_default().push(arguments.trim());
    }
    let entries = table.into_iter().map(|(name, arguments)| {
        let value = match arguments.as_slice() {
            [.., last] if arguments.len() == 1 || !ADDED_UP.contains(&name) => Value::from(*last),
            all => Value::from(all),
        };
        (name.to_owned(), value)
    });
    Value::Object(entries.collect())
}

/// Decodes `data` and merges it with `stringData`, which is equivalent. Values other than text stay
/// encoded.
fn decode(secret: &mut Value) {
    for value in secret["data"]
        .as_object_mut()
        .into_iter()
        .flat_map(Map::values_mut)
    {
        let bytes: Option<ByteString> = serde_json::from_value(value.clone()).ok();
        if let Some(text) = bytes.and_then(|ByteString(bytes)| String::from_utf8(bytes).ok()) {
            *value = Value::from(text);
        }
    }
    if let Some(Value::Object(texts)) = secret
        .as_object_mut()
        .and_then(|secret| secret.remove("stringData"))
    {
        for (key, text) in texts {
            secret["data"][key] = text;
        }
    }
}

/// Removes the type from claim templates, where it has no effect.
fn untype_claims(set: &mut Value) {
    let claims = set
        .pointer_mut("/spec/volumeClaimTemplates")
        .and_then(Value::as_array_mut);
    for claim in claims.into_iter().flatten().filter_map(Value::as_object_mut) {
        claim.retain(|key, _| key != "apiVersion" && key != "kind");
    }
}

/// Removes values that Kubernetes reads as absent: `null`, `{}` and `[]`. An `emptyDir: {}` stays.
fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for field in fields.values_mut() {
                prune(field);
            }
            fields.retain(|key, field| key == "emptyDir" || !says_nothing(field));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn says_nothing(value: &Value) -> bool {
    value.is_null()
        || value.as_object().is_some_and(Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(kind: &str, name: &str) -> Value {
        json!({"kind": kind, "metadata": {"name": name}})
    }

    #[test]
    fn a_renamed_object_keeps_its_role() {
        for prefix in ["my-valkey", "x"] {
            let objects = Objects::new([
                named("Service", prefix),
                named("Service", &format!("{prefix}-headless")),
                named("Job", &format!("{prefix}-cluster-init")),
            ]);
            let roles: Vec<&str> = objects.roles().collect();
            assert_eq!(roles, ["Job cluster-init", "Service", "Service headless"]);
        }
    }

    #[test]
    fn a_role_is_that_of_the_namesake_of_the_servers() {
        let mut configuring = named("ConfigMap", "vk-config");
        configuring["data"] = json!({"valkey.conf": "port 6379"});
        let objects = Objects::new([
            named("ConfigMap", "vk"),
            configuring,
            named("ServiceAccount", "of-the-user"),
            named("StatefulSet", "vk"),
        ]);
        let roles: Vec<&str> = objects.roles().collect();
        assert_eq!(
            roles,
            ["ConfigMap", "ConfigMap/vk", "ServiceAccount", "StatefulSet"]
        );
        assert_eq!(objects.get("ConfigMap").unwrap()["metadata"]["name"], "vk-config");
        let objects = Objects::new([
            named("ServiceAccount", "of-the-user"),
            named("ServiceAccount", "vk"),
            named("StatefulSet", "vk"),
        ]);
        assert_eq!(objects.get("ServiceAccount").unwrap()["metadata"]["name"], "vk");
    }

    #[test]
    fn what_the_readme_does_not_know_goes_by_kind_and_name() {
        let objects = Objects::new([
            named("ConfigMap", "vk"),
            named("ConfigMap", "vk-scripts"),
            named("NetworkPolicy", "vk"),
        ]);
        let roles: Vec<(&str, bool)> = objects.roles().map(|role| (role, is_documented(role))).collect();
        assert_eq!(
            roles,
            [
                ("ConfigMap", true),
                ("ConfigMap/vk-scripts", false),
                ("NetworkPolicy/vk", false)
            ]
        );
    }

    #[test]
    fn configuration_and_secrets_are_compared_for_what_they_say() {
        let map = json!({"kind": "ConfigMap", "metadata": {"name": "vk"},
            "data": {"valkey.conf": "# Network\nport 1\nport 6379\n\nrename-command A \"\"\nrename-command B \"\"\n"}});
        let secret = json!({"kind": "Secret", "metadata": {"name": "vk", "annotations": {}},
            "data": {"valkey-password": "c2VjcmV0"}});
        let objects = Objects::new([map, secret]);
        let conf = &objects.get("ConfigMap").unwrap()["data"]["valkey.conf"];
        assert_eq!(
            *conf,
            json!({"port": "6379", "rename-command": ["A \"\"", "B \"\""]})
        );
        let secret = objects.get("Secret").unwrap();
        assert_eq!(secret["data"]["valkey-password"], "secret");
        let plain = json!({"kind": "Secret", "metadata": {"name": "vk"}, "stringData": {"valkey-password": "secret"}});
        assert_eq!(Objects::new([plain]).get("Secret"), Some(secret));
        assert!(secret["metadata"].get("annotations").is_none());
    }
}
