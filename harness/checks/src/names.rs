//! Pods call each other by the names of the rendered objects, also if the user chose a name.

use serde_json::Value;

use super::Violation;
use super::secrecy::{subject, walk};

/// The check's name.
pub const NAME: &str = "names";

/// Kinds that contribute their names to host names.
const HOSTS: [&str; 2] = ["Service", "StatefulSet"];

/// Container fields in which pods refer to hosts.
const LOOKED_AT: [&str; 3] = ["env", "command", "args"];

/// Finds names that begin with `stem` in pods' commands and variables, but that no object has.
/// `under` names the values that caused the wrong names.
pub fn check(objects: &[Value], stem: &str, under: &str) -> Vec<Violation> {
    let known: Vec<&str> = objects
        .iter()
        .filter(|object| object["kind"].as_str().is_some_and(|kind| HOSTS.contains(&kind)))
        .filter_map(|object| object["metadata"]["name"].as_str())
        .collect();
    let mut violations = Vec::new();
    for object in objects {
        walk(object, &mut String::new(), &mut |path, text| {
            if !is_looked_at(path) {
                return;
            }
            let strange = hosts(text, stem).find(|word| !is_known(&known, word));
            if let Some(word) = strange {
                let expected = format!("only names of this release's objects, {under}");
                let seen = format!("{word:?} in {path}; the release has {}", known.join(", "));
                violations.push(Violation::new(NAME, subject(object), expected, seen));
            }
        });
    }
    violations
}

fn is_looked_at(path: &str) -> bool {
    let in_container = path
        .split('.')
        .any(|part| part.starts_with("containers[") || part.starts_with("initContainers["));
    in_container && LOOKED_AT.iter().any(|field| path.contains(&format!(".{field}[")))
}

/// Returns the first label of each word that begins with `stem` and looks like a host. Such a word
/// precedes a domain, a port, a number or a suffix, or stands alone.
fn hosts<'a>(text: &'a str, stem: &'a str) -> impl Iterator<Item = &'a str> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.match_indices(stem).filter_map(move |(start, _)| {
        let begins = !text[..start].ends_with(of_name);
        let rest = &text[start..];
        let end = rest.find(|c| !of_name(c)).unwrap_or(rest.len());
        let used = (rest.len() == text.len() && end == rest.len())
            || end > stem.len()
            || rest[end..].starts_with(['.', ':']);
        (begins && used).then(|| &rest[..end])
    })
}

/// Returns true for a name with or without a suffix, such as an ordinal. Also accepts the beginning
/// of a name, which a script may complete.
fn is_known(known: &[&str], word: &str) -> bool {
    known.iter().any(|name| {
        let rest = word.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) || name.starts_with(word)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn release(fullname: &str, used: &str) -> Vec<Value> {
        vec![
            json!({"kind": "Service", "metadata": {"name": fullname}}),
            json!({"kind": "Service", "metadata": {"name": format!("{fullname}-headless")}}),
            json!({"kind": "StatefulSet", "metadata": {"name": fullname}}),
            json!({"kind": "Job", "metadata": {"name": format!("{fullname}-cluster-init"), "labels": {"instance": "vk-old"}},
                "spec": {"template": {"spec": {"containers": [{"name": "init",
                    "command": ["sh", "-c", "valkey-cli -h \"$HOST_PREFIX$i$HOST_SUFFIX\" ping"],
                    "env": [{"name": "HOST_PREFIX", "value": format!("{used}-")},
                            {"name": "HOST_SUFFIX", "value": format!(".{used}-headless.ns.svc.cluster.local")}]}]}}}}),
        ]
    }

    #[test]
    fn names_that_follow_the_release_are_fine() {
        let long = "r".repeat(53);
        let cut = format!("{long}-percona-v");
        assert_eq!(check(&release(&cut, &cut), &long, "under a long name"), []);
        assert_eq!(
            check(
                &release("renamed", "renamed"),
                "vk-percona-valkey",
                "under another name"
            ),
            []
        );
        // A word of a message is not a host name.
        let mut told = release("renamed", "renamed");
        told[3]["spec"]["template"]["spec"]["containers"][0]["args"] =
            json!(["echo waiting for vk-percona-valkey to come"]);
        assert_eq!(check(&told, "vk-percona-valkey", "under another name"), []);
    }

    #[test]
    fn names_that_ignore_an_override_are_named() {
        let violations = check(
            &release("renamed", "vk-percona-valkey"),
            "vk-percona-valkey",
            "with fullnameOverride",
        );
        assert_eq!(violations.len(), 2);
        assert_eq!(
            violations[0].to_string(),
            "names: Job renamed-cluster-init: expected only names of this release's objects, with \
             fullnameOverride, saw \"vk-percona-valkey-\" in spec.template.spec.containers[init].env[HOST_PREFIX].value; \
             the release has renamed, renamed-headless, renamed"
        );
    }

    #[test]
    fn names_that_are_not_cut_as_those_of_the_objects_are_named() {
        let long = "r".repeat(53);
        let release = release(&format!("{long}-percona-v"), &format!("{long}-percona-valkey"));
        assert_eq!(check(&release, &long, "under a long name").len(), 2);
    }
}
