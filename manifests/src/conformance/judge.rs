//! Judges a case on two renderings: every expected change took place, and no other.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::case::{Case, Changes, Paths, Rename, expand};
use super::defaults::{is_default, strip};
use super::difference::{Difference, differences, name_of, shown};
use super::objects::{Objects, is_documented};

/// In the table: any value but the one before.
const ANOTHER: &str = "(another)";
/// In the table: any value where there was none.
const ADDED: &str = "(added)";
/// In the table: a text, or a variable's value, that contains what follows.
const CONTAINING: &str = "(containing) ";

/// Variables of the server that the README documents; a chart is free to have others.
const SERVER_VARIABLES: [&str; 5] = [
    "VALKEY_PASSWORD",
    "VALKEY_MAXMEMORY",
    "VALKEY_BIND",
    "POD_IP",
    "VALKEY_EXTRA_FLAGS",
];

/// Volumes of the server that every chart needs. Those for `/tmp` and `/run/valkey` may be there
/// even where they are not needed.
const VOLUMES: [&str; 2] = ["config", "data"];

/// The role of the servers' object.
const STATEFUL_SET: &str = "StatefulSet";

/// The keys of a ConfigMap and a Secret that the README documents.
const KEYS: [(&str, &str); 2] = [
    ("ConfigMap", "data[valkey.conf]"),
    ("Secret", "data.valkey-password"),
];

/// Fields of the servers' pods that spread or stop them, in a chart's own way.
const PLACEMENT: [&str; 3] = [
    "affinity",
    "topologySpreadConstraints",
    "terminationGracePeriodSeconds",
];

/// The renderer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renderer {
    /// This crate: every field is judged.
    Ours,
    /// A chart on disk: it may have more objects than the README describes. It is free to choose
    /// how its Jobs and probes work.
    Chart,
}

/// A field that is not what the parameter promises.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The parameter.
    pub parameter: String,
    /// The object's role.
    pub object: String,
    /// The field's path; empty for the object itself.
    pub path: String,
    /// The promise of the parameter.
    pub expected: String,
    /// The value that is there.
    pub found: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            parameter,
            object,
            path,
            expected,
            found,
        } = self;
        let space = if path.is_empty() { "" } else { " " };
        write!(
            f,
            "{parameter}: {object}{space}{path}: expected {expected}, found {found}"
        )
    }
}

/// The result of a case.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// The findings.
    pub findings: Vec<Finding>,
    /// Differences that are not judged, since the README does not cover them.
    pub not_judged: Vec<Difference>,
}

/// Judges the changes from `before` to `after`, the renderings of [`Case::values`]. A chart may
/// read the README in any of the ways that the case lists.
#[must_use]
pub fn judge(case: &Case, before: &Objects, after: &Objects, renderer: Renderer) -> Verdict {
    let verdict = judge_one(case, &case.changes, before, after, renderer);
    if verdict.findings.is_empty() || renderer == Renderer::Ours {
        return verdict;
    }
    let others = case.or.iter();
    let mut others = others.map(|changes| judge_one(case, changes, before, after, renderer));
    others.find(|other| other.findings.is_empty()).unwrap_or(verdict)
}

fn judge_one(
    case: &Case,
    changes: &Changes,
    before: &Objects,
    after: &Objects,
    renderer: Renderer,
) -> Verdict {
    let mut expected = Expected::of(case, changes, before, after, renderer);
    if renderer == Renderer::Chart {
        expected.leave_out_what_a_chart_need_not_have(before, after);
    }
    let mut verdict = Verdict::default();
    let mut changed = BTreeMap::new();
    for difference in differences(before, after) {
        let at = (difference.object.clone(), difference.path.clone());
        let is_free = || {
            let restarts_pods = at.0 == STATEFUL_SET && at.1.starts_with("spec.template");
            let is_own =
                is_own_business(&difference, renderer) && !(restarts_pods && leaves_pods_alone(case));
            expected.allows(&at) || is_own || expected.follows_the_name(&difference)
        };
        if !expected.values.contains_key(&at) && is_free() {
            verdict.not_judged.push(difference);
        } else {
            changed.insert(at, difference);
        }
    }
    if renderer == Renderer::Chart {
        // What a chart has on both sides, or with more of its own, is as right as a change.
        expected.values.retain(|at, wanted| {
            let value = after.get(&at.0).and_then(|object| at_path(object, &at.1));
            let holds = wanted.holds(value);
            if holds {
                changed.retain(|_, difference| !concerns(difference, at));
            }
            !holds
        });
    }
    for (at, wanted) in &expected.values {
        let difference = changed.remove(at);
        if !wanted.is_met_by(difference.as_ref()) {
            let found = match &difference {
                Some(difference) if at.1.is_empty() => presence(difference.after.is_some()).to_owned(),
                Some(difference) => shown(difference.after.as_ref()),
                None => "no change".to_owned(),
            };
            verdict
                .findings
                .push(finding(case, at, wanted.to_string(), found));
        }
    }
    for (at, difference) in changed {
        let found = if at.1.is_empty() {
            presence(difference.after.is_some()).to_owned()
        } else {
            let (before, after) = (difference.before.as_ref(), difference.after.as_ref());
            format!("{} where it was {}", shown(after), shown(before))
        };
        verdict
            .findings
            .push(finding(case, &at, "no change".to_owned(), found));
    }
    verdict
        .findings
        .sort_by(|a, b| (&a.object, &a.path).cmp(&(&b.object, &b.path)));
    verdict
}

/// Returns true if the difference is of the value at `at`, or if it adds the part of the object
/// that has this value.
fn concerns(difference: &Difference, at: &At) -> bool {
    let is_below = |path: &str, start: &str| {
        path.strip_prefix(start)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    difference.object == at.0
        && !difference.path.is_empty()
        && (is_below(&difference.path, &at.1)
            || difference.before.is_none() && is_below(&at.1, &difference.path))
}

/// Returns true if the README promises that the parameter restarts no server.
fn leaves_pods_alone(case: &Case) -> bool {
    let parameter = case.parameter.as_str();
    let counts = [
        "cluster.replicas",
        "cluster.replicasPerPrimary",
        "standalone.replicas",
    ];
    counts.contains(&parameter) || parameter.starts_with("service.") || parameter.starts_with("pdb.")
}

type At = (String, String);

fn finding(case: &Case, at: &At, expected: String, found: String) -> Finding {
    Finding {
        parameter: case.parameter.clone(),
        object: at.0.clone(),
        path: at.1.clone(),
        expected,
        found,
    }
}

fn presence(present: bool) -> &'static str {
    if present { "the object" } else { "no such object" }
}

/// The value that one field must have.
enum Wanted {
    Value(Value),
    Absent,
    Another,
    Added,
    Containing(String),
    Object(bool),
}

impl Wanted {
    /// Reads an entry of the table, without Kubernetes' own defaults.
    fn of(path: &str, value: &Value) -> Self {
        if let Some(text) = value.as_str().and_then(|text| text.strip_prefix(CONTAINING)) {
            return Self::Containing(text.to_owned());
        }
        match value {
            Value::Null => Self::Absent,
            value if *value == ANOTHER => Self::Another,
            value if *value == ADDED => Self::Added,
            value if is_default(path.rsplit(['.', ']']).next().unwrap_or(path), value) => Self::Absent,
            value => {
                let mut value = value.clone();
                strip(&mut value);
                Self::Value(value)
            }
        }
    }

    /// Returns true if a rendering has the value, whatever it had before. A chart may have more in
    /// the same map or list.
    fn holds(&self, found: Option<&Value>) -> bool {
        match self {
            Self::Value(value) => found.is_some_and(|found| contains(found, value)),
            Self::Containing(part) => has_text(found, part),
            Self::Absent | Self::Another | Self::Added | Self::Object(_) => false,
        }
    }

    fn is_met_by(&self, difference: Option<&Difference>) -> bool {
        let Some(Difference { before, after, .. }) = difference else {
            return false;
        };
        match self {
            Self::Containing(part) => has_text(after.as_ref(), part),
            Self::Value(value) => after.as_ref() == Some(value),
            Self::Absent => after.is_none(),
            Self::Another => before.is_some() && after.is_some(),
            Self::Added => before.is_none() && after.is_some(),
            Self::Object(present) => after.is_some() == *present,
        }
    }
}

/// Returns true if the text, or the variable with a text for its value, contains `part`.
fn has_text(found: Option<&Value>, part: &str) -> bool {
    let text = found.map(|found| found.get("value").unwrap_or(found));
    text.and_then(Value::as_str)
        .is_some_and(|text| text.contains(part))
}

/// Returns true if `found` is `wanted`, or a map or list that contains all of it.
fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| found.get(key).is_some_and(|found| contains(found, wanted))),
        (Value::Array(found), Value::Array(wanted)) => wanted
            .iter()
            .all(|wanted| found.iter().any(|found| contains(found, wanted))),
        _ => found == wanted,
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value}"),
            Self::Absent => f.write_str("absent"),
            Self::Another => f.write_str("another value than before"),
            Self::Added => f.write_str("a value"),
            Self::Containing(part) => write!(f, "a text with {part:?}"),
            Self::Object(present) => f.write_str(presence(*present)),
        }
    }
}

/// A row of the table, with full paths for the objects at hand.
#[derive(Default)]
struct Expected {
    values: BTreeMap<At, Wanted>,
    allowed: Vec<At>,
    /// The substitution in a chart's names.
    names: Option<Rename>,
}

impl Expected {
    fn of(case: &Case, changes: &Changes, before: &Objects, after: &Objects, renderer: Renderer) -> Self {
        let mut expected = Self::default();
        for (roles, present) in [(&case.removed, false), (&case.added, true)] {
            let objects = roles
                .iter()
                .map(|role| ((role.clone(), String::new()), Wanted::Object(present)));
            expected
                .values
                .extend(objects.filter(|(at, _)| renderer == Renderer::Ours || is_documented(&at.0)));
        }
        expected.changes(changes, after);
        if renderer == Renderer::Ours {
            expected.renamed(case.rename.as_ref(), &case.renamed, before);
            expected.changes(&case.ours, after);
            expected.renamed(case.rename.as_ref(), &case.ours_renamed, before);
        } else {
            expected.names = case.rename.as_ref().map(|rename| rename_of_chart(rename, before));
            let names = expected.names.clone();
            expected.renamed(names.as_ref(), &case.renamed, before);
            // A missing field cannot be renamed; its absence is a finding of another case.
            expected
                .values
                .retain(|_, wanted| case.rename.is_none() || !matches!(wanted, Wanted::Another));
            // A chart may have more objects than the README. The table does not apply to those.
            expected.values.retain(|(role, _), _| is_documented(role));
            let may = case
                .may
                .iter()
                .flat_map(|(key, paths)| paths.iter().map(move |path| (key, path)));
            expected.allowed = may.flat_map(|(key, path)| expand(key, path, after)).collect();
        }
        expected
    }

    fn changes(&mut self, changes: &Changes, present: &Objects) {
        for (key, fields) in changes {
            for (path, value) in fields {
                for at in expand(key, path, present) {
                    let wanted = Wanted::of(&at.1, value);
                    self.values.insert(at, wanted);
                }
            }
        }
    }

    /// Drops expectations about a chart's labels and the inputs of its Jobs, which the README does
    /// not name. Labels and inputs that a chart has must follow the parameter.
    fn leave_out_what_a_chart_need_not_have(&mut self, before: &Objects, after: &Objects) {
        let value = |objects: &Objects, at: &At| {
            let object = objects.get(&at.0)?;
            at_path(object, &at.1).cloned()
        };
        self.values.retain(|at, _| {
            let is_tool = at.0.starts_with("Job ") || at.0.starts_with("Pod ");
            let (old, new) = (value(before, at), value(after, at));
            let absent = old.is_none() && new.is_none() && !at.1.is_empty();
            let own_way = is_tool && (at.1.contains("securityContext") || at.1.contains(".env["));
            // Without the secrets of the registry, no tool can start.
            let needed = at.1.ends_with("imagePullSecrets");
            let free = absent && (is_tool && !needed || at.1.contains("labels[")) || own_way && old == new;
            !free
        });
    }

    /// Returns true if the table lets a chart change this path. An entry allows its own path, or
    /// with a final `.*` all paths below.
    fn allows(&self, at: &At) -> bool {
        self.allowed.iter().any(|(role, path)| {
            let below = path
                .strip_suffix(".*")
                .is_some_and(|start| at.1.starts_with(start));
            *role == at.0 && (below || *path == at.1)
        })
    }

    /// Returns true if the difference is only the chart's own use of a name that the case changes.
    fn follows_the_name(&self, difference: &Difference) -> bool {
        let text = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
        let (Some(names), Some(before)) = (&self.names, text(&difference.before)) else {
            return false;
        };
        text(&difference.after) == Some(before.replace(&names.from, &names.to))
    }

    fn renamed(&mut self, rename: Option<&Rename>, paths: &Paths, before: &Objects) {
        let Some(rename) = rename else {
            return;
        };
        for (key, paths) in paths {
            for at in paths.iter().flat_map(|path| expand(key, path, before)) {
                let old = before
                    .get(&at.0)
                    .and_then(|object| at_path(object, &at.1))
                    .and_then(Value::as_str);
                // A missing field cannot be renamed; its absence is a separate finding.
                let new = old.map(|old| Value::from(old.replace(&rename.from, &rename.to)));
                self.values.insert(at, new.map_or(Wanted::Another, Wanted::Value));
            }
        }
    }
}

/// Returns the substitution in the names of a chart, which may have another name than the README's.
fn rename_of_chart(rename: &Rename, before: &Objects) -> Rename {
    let name = before
        .get(STATEFUL_SET)
        .and_then(|set| set["metadata"]["name"].as_str());
    Rename {
        from: name.unwrap_or(&rename.from).to_owned(),
        to: rename.to.clone(),
    }
}

/// Returns the value at a path in the notation of [`differences`].
fn at_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = object;
    let mut rest = path;
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']')?,
            None => {
                let plain = rest.trim_start_matches('.');
                let end = plain.find(['.', '[']).unwrap_or(plain.len());
                plain.split_at(end)
            }
        };
        value = match value {
            Value::Array(items) => {
                let named = items.iter().find(|item| name_of(item) == Some(step));
                named.or_else(|| items.get(step.parse::<usize>().ok()?))?
            }
            other => other.get(step)?,
        };
        rest = after;
    }
    Some(value)
}

/// Returns true if a chart is free to make this change. Examples are additional objects and
/// containers, commands of Jobs and probes, and undocumented variables.
fn is_own_business(difference: &Difference, renderer: Renderer) -> bool {
    if renderer == Renderer::Ours {
        return false;
    }
    let path = difference.path.as_str();
    // Labels of claims are stable in a good chart, and the API server adds those of the selector.
    let of_claims = path.starts_with("spec.volumeClaimTemplates[") && path.contains("].metadata.labels");
    if !is_documented(&difference.object) || path.contains(".initContainers") || of_claims {
        return true;
    }
    let of = |list: &str| path.split_once(list).and_then(|(_, rest)| rest.split(']').next());
    let volume = of(".volumes[").or_else(|| of(".volumeMounts["));
    if volume.is_some_and(|name| !VOLUMES.contains(&name)) {
        return true;
    }
    if let Some((_, documented)) = KEYS.iter().find(|(role, _)| *role == difference.object) {
        return path.starts_with("data") && !path.starts_with(documented);
    }
    let of_pod = path.strip_prefix("spec.template.spec.").unwrap_or_default();
    if difference.object == STATEFUL_SET && PLACEMENT.iter().any(|field| of_pod.starts_with(field)) {
        return true;
    }
    let Some((_, in_container)) = path.split_once(".containers[") else {
        return path.ends_with("containers") || path.contains("annotations[checksum/");
    };
    let Some((container, field)) = in_container.split_once(']') else {
        return false;
    };
    let field = field.trim_start_matches('.');
    let variable = field.strip_prefix("env[").and_then(|rest| rest.split(']').next());
    match (difference.object.as_str(), container) {
        (STATEFUL_SET, "valkey") => {
            let probe = field
                .split_once("Probe.")
                .is_some_and(|(_, rest)| !rest.ends_with("Seconds") && !rest.ends_with("Threshold"));
            probe
                || field.starts_with("lifecycle")
                || variable.is_some_and(|name| !SERVER_VARIABLES.contains(&name))
        }
        (STATEFUL_SET, _) => true,
        _ => {
            let own = field.starts_with("command") || field.starts_with("args");
            own || variable.is_some_and(|name| name != "VALKEY_PASSWORD")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(spec: &Value) -> Objects {
        Objects::new([
            json!({"kind": "StatefulSet", "metadata": {"name": "vk"}, "spec": {"template": {"spec": spec}}}),
        ])
    }

    fn case(changes: &Value) -> Case {
        Case {
            parameter: "p".to_owned(),
            changes: serde_json::from_value(changes.clone()).expect("changes"),
            ..Case::default()
        }
    }

    fn findings(changes: &Value, before: &Value, after: &Value, renderer: Renderer) -> Vec<String> {
        let verdict = judge(&case(changes), &set(before), &set(after), renderer);
        verdict.findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_missing_change_and_an_unexpected_one_are_both_told() {
        let changes = json!({"StatefulSet": {"pod.a": 2}});
        let (before, after) = (json!({"a": 1, "b": 1}), json!({"a": 1, "b": 2}));
        assert_eq!(
            findings(&changes, &before, &after, Renderer::Ours),
            [
                "p: StatefulSet spec.template.spec.a: expected 2, found no change",
                "p: StatefulSet spec.template.spec.b: expected no change, found 2 where it was 1",
            ]
        );
        assert_eq!(
            findings(&changes, &before, &json!({"a": 2, "b": 1}), Renderer::Ours),
            [""; 0]
        );
        assert_eq!(
            findings(&changes, &before, &json!({"a": 3, "b": 1}), Renderer::Ours),
            ["p: StatefulSet spec.template.spec.a: expected 2, found 3"]
        );
    }

    #[test]
    fn a_field_must_go_when_the_table_says_so() {
        let changes = json!({"StatefulSet": {"pod.a": null}});
        assert_eq!(
            findings(
                &changes,
                &json!({"a": 1, "b": 1}),
                &json!({"b": 1}),
                Renderer::Ours
            ),
            [""; 0]
        );
    }

    #[test]
    fn a_chart_may_change_only_its_own_containers_and_commands() {
        let pod = |command: &str, image: &str, bind: &str| {
            json!({"containers": [
                {"name": "metrics", "image": command},
                {"name": "valkey", "image": image, "env": [{"name": "VALKEY_BIND", "value": bind}, {"name": "OWN", "value": command}],
                 "livenessProbe": {"exec": {"command": [command]}, "periodSeconds": 1}},
            ]})
        };
        let before = pod("a", "image", "0.0.0.0");
        let no_change = json!({});
        assert_eq!(
            findings(
                &no_change,
                &before,
                &pod("b", "image", "0.0.0.0"),
                Renderer::Chart
            ),
            [""; 0]
        );
        assert_eq!(
            findings(&no_change, &before, &pod("b", "image", "0.0.0.0"), Renderer::Ours).len(),
            3
        );
        assert_eq!(
            findings(&no_change, &before, &pod("a", "other", "::"), Renderer::Chart).len(),
            2
        );
    }

    #[test]
    fn a_chart_may_have_the_value_already_and_more_beside_it() {
        let changes = json!({"StatefulSet": {
            "pod.nodeSelector": {"arch": "amd64"},
            "server.env[VALKEY_EXTRA_FLAGS]": "(containing) --io-threads 2",
        }});
        let pod = |arch: &Value, flags: &str| {
            json!({"nodeSelector": arch, "containers": [
                {"name": "valkey", "env": [{"name": "VALKEY_EXTRA_FLAGS", "value": flags}]}]})
        };
        let found = |before: &Value, after: &Value| findings(&changes, before, after, Renderer::Chart);
        let linux = pod(&json!({"os": "linux"}), "--own");
        let both = pod(&json!({"os": "linux", "arch": "amd64"}), "--own --io-threads 2");
        assert_eq!(found(&linux, &both), [""; 0]);
        assert_eq!(found(&both, &both), [""; 0], "there on both sides");
        assert_eq!(found(&linux, &linux).len(), 2, "the parameter does nothing");
        assert_eq!(findings(&changes, &both, &both, Renderer::Ours).len(), 2);
    }

    #[test]
    fn what_follows_a_chart_s_own_name_is_no_finding() {
        let of = |name: &str| {
            Objects::new([
                json!({"kind": "StatefulSet", "metadata": {"name": name}, "spec": {"template": {"spec":
                    {"containers": [{"name": "valkey", "args": [format!("--host {name}-0")]}]}}}}),
            ])
        };
        let mut case = case(&json!({}));
        case.rename = Some(Rename {
            from: "my-valkey-percona-valkey".into(),
            to: "exact".into(),
        });
        case.renamed = Paths::from([("all".to_owned(), vec!["metadata.name".to_owned()])]);
        let found = |before: &str, after: &str| {
            judge(&case, &of(before), &of(after), Renderer::Chart)
                .findings
                .len()
        };
        assert_eq!(found("my-valkey-acme", "exact"), 0);
        assert_eq!(found("my-valkey-acme", "my-valkey-acme"), 1, "it is not renamed");
    }

    #[test]
    fn a_count_of_pods_restarts_none_of_them() {
        let env = |nodes: &str| json!({"containers": [{"name": "valkey", "env": [{"name": "NODES", "value": nodes}]}]});
        let found = |parameter: &str| {
            let mut case = case(&json!({}));
            case.parameter = parameter.to_owned();
            judge(&case, &set(&env("a b")), &set(&env("a b c")), Renderer::Chart)
                .findings
                .len()
        };
        assert_eq!(found("cluster.replicas"), 1);
        assert_eq!(found("cluster.nodeTimeout"), 0, "a chart's own variable");
    }

    #[test]
    fn names_change_where_the_table_says_and_by_what_it_says() {
        let service = |name: &str| Objects::new([json!({"kind": "Service", "metadata": {"name": name}})]);
        let mut case = case(&json!({}));
        case.rename = Some(super::super::case::Rename {
            from: "old".into(),
            to: "new".into(),
        });
        case.renamed = Paths::from([("all".to_owned(), vec!["metadata.name".to_owned()])]);
        assert_eq!(
            judge(&case, &service("my-old"), &service("my-new"), Renderer::Ours),
            Verdict::default()
        );
        let wrong = judge(&case, &service("my-old"), &service("new"), Renderer::Ours);
        assert_eq!(
            wrong.findings[0].to_string(),
            "p: Service metadata.name: expected \"my-new\", found \"new\""
        );
    }
}
