//! Server-side apply: field owners, conflicts, and removal of fields that an applier drops.
//!
//! Reference: Kubernetes documentation, "Server-Side Apply". Objects that the cluster itself
//! creates (pods, claims, endpoints) have no owners until somebody applies them. Their fields then
//! belong to `before-first-apply`, like those of an object older than server-side apply.

use serde_json::{Value, json};

use super::fields::{self, FieldSet, Path};
use super::schema::{ListType, Place, element_key, is_atomic_map, list_type};
use crate::api::object;

/// The owner of fields that existed before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The author of an apply request.
#[derive(Clone, Debug)]
pub(crate) struct Applier<'a> {
    pub(crate) manager: &'a str,
    pub(crate) api_version: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) force: bool,
}

/// A field that another manager owns, with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApplyConflict {
    pub(crate) manager: String,
    pub(crate) api_version: String,
    pub(crate) field: String,
}

/// Applies a configuration to a live object (`{}` for an object that does not exist yet).
pub(crate) fn apply(
    live: &Value,
    config: &Value,
    applier: &Applier<'_>,
) -> Result<Value, Vec<ApplyConflict>> {
    let wanted = fields::of(config);
    let mut managers = Managers::of(live);
    let differing: Vec<&Path> = wanted
        .iter()
        .filter(|path| fields::differ(live, config, path))
        .collect();
    let conflicts = managers.conflicts(&differing, applier);
    if !conflicts.is_empty() && !applier.force {
        return Err(conflicts);
    }
    let before = managers.take_own(applier);
    managers.disown(&differing);
    let mut merged = live.clone();
    merge(&mut merged, config, &Place::ROOT);
    // A list element precedes its fields. It is removed as a whole, while its key still identifies
    // it.
    for path in before.fields.difference(&wanted) {
        if !managers.owns(path) && !wanted.iter().any(|kept| kept.starts_with(path)) {
            fields::remove(&mut merged, path);
        }
    }
    managers.add_own(applier, before, wanted);
    managers.write(&mut merged);
    Ok(merged)
}

/// Records the owner of a new object's fields.
pub(crate) fn track_create(new: &mut Value, manager: &str) {
    track_update(&json!({}), new, manager, "", true);
}

/// Records the fields that a plain update changed. An object without managers is recorded only when
/// `tracked` is true.
pub(crate) fn track_update(old: &Value, new: &mut Value, manager: &str, subresource: &str, tracked: bool) {
    // The client's own `managedFields` win, if there are any. Clients rename an owner in this way.
    let mut managers = Managers::of_applied(new);
    if managers.0.is_empty() && !tracked {
        return;
    }
    let (had, has) = (fields::of(old), fields::of(new));
    let gone: Vec<&Path> = had.difference(&has).collect();
    let changed: FieldSet = has
        .iter()
        .filter(|path| fields::differ(old, new, path))
        .cloned()
        .collect();
    managers.disown(&gone);
    if changed.is_empty() {
        managers.write(new);
        return;
    }
    managers.disown(&changed.iter().collect::<Vec<_>>());
    let api_version = object::text(new, &["apiVersion"]).to_owned();
    let update = Applier {
        manager,
        api_version: &api_version,
        subresource,
        force: false,
    };
    managers.add_update(&update, changed);
    managers.write(new);
}

/// The parsed `metadata.managedFields`.
struct Managers(Vec<Manager>);

struct Manager {
    entry: Value,
    fields: FieldSet,
}

/// The applier's entry before the new apply.
struct Before {
    entry: Option<Value>,
    fields: FieldSet,
}

impl Managers {
    fn of_applied(object: &Value) -> Self {
        let entries = object::list(object, &["metadata", "managedFields"]);
        let read = |entry: &Value| Manager {
            fields: fields::from_v1(&entry["fieldsV1"]),
            entry: entry.clone(),
        };
        Self(entries.iter().map(read).collect())
    }

    fn of(object: &Value) -> Self {
        let mut managers = Self::of_applied(object);
        let mut all = fields::of(object);
        all.retain(|path| path.first().is_none_or(|first| first != "f:status"));
        if managers.0.is_empty() && !all.is_empty() {
            let api_version = object::text(object, &["apiVersion"]).to_owned();
            let update = Applier {
                manager: BEFORE_FIRST_APPLY,
                api_version: &api_version,
                subresource: "",
                force: false,
            };
            managers.add_update(&update, all);
        }
        managers
    }

    fn conflicts(&self, differing: &[&Path], applier: &Applier<'_>) -> Vec<ApplyConflict> {
        let others = self.0.iter().filter(|manager| !is_own(&manager.entry, applier));
        let mut conflicts: Vec<ApplyConflict> = others
            .flat_map(|manager| {
                differing
                    .iter()
                    .filter(|path| manager.fields.contains(**path))
                    .map(|path| ApplyConflict {
                        manager: object::text(&manager.entry, &["manager"]).to_owned(),
                        api_version: object::text(&manager.entry, &["apiVersion"]).to_owned(),
                        field: fields::display(path),
                    })
            })
            .collect();
        conflicts.sort_by(|a, b| (&a.manager, &a.field).cmp(&(&b.manager, &b.field)));
        conflicts
    }

    fn take_own(&mut self, applier: &Applier<'_>) -> Before {
        match self.0.iter().position(|manager| is_own(&manager.entry, applier)) {
            Some(index) => {
                let own = self.0.remove(index);
                Before {
                    entry: Some(own.entry),
                    fields: own.fields,
                }
            }
            None => Before {
                entry: None,
                fields: FieldSet::new(),
            },
        }
    }

    fn disown(&mut self, paths: &[&Path]) {
        for manager in &mut self.0 {
            manager.fields.retain(|path| !paths.contains(&path));
        }
    }

    fn owns(&self, path: &Path) -> bool {
        self.0
            .iter()
            .any(|manager| manager.fields.iter().any(|own| own.starts_with(path)))
    }

    /// Adds the applier's entry. An entry with unchanged fields keeps its time, so that applying
    /// twice changes nothing.
    fn add_own(&mut self, applier: &Applier<'_>, before: Before, fields: FieldSet) {
        let entry = match before.entry {
            Some(entry) if before.fields == fields => entry,
            _ => entry(applier, "Apply"),
        };
        self.0.push(Manager { entry, fields });
    }

    fn add_update(&mut self, update: &Applier<'_>, fields: FieldSet) {
        let same = self.0.iter_mut().find(|manager| {
            manager.entry["operation"] == "Update"
                && manager.entry["manager"] == update.manager
                && object::text(&manager.entry, &["subresource"]) == update.subresource
        });
        match same {
            Some(manager) => manager.fields.extend(fields),
            None => self.0.push(Manager {
                entry: entry(update, "Update"),
                fields,
            }),
        }
    }

    fn write(self, object: &mut Value) {
        let mut entries: Vec<Value> = self
            .0
            .into_iter()
            .filter(|manager| !manager.fields.is_empty())
            .map(|manager| {
                let mut entry = manager.entry;
                entry["fieldsV1"] = fields::to_v1(&manager.fields);
                entry
            })
            .collect();
        entries.sort_by_key(|entry| {
            let part = |key: &str| object::text(entry, &[key]).to_owned();
            (part("operation"), part("manager"), part("subresource"))
        });
        object::meta_mut(object).insert("managedFields".to_owned(), Value::Array(entries));
    }
}

fn is_own(entry: &Value, applier: &Applier<'_>) -> bool {
    entry["operation"] == "Apply"
        && entry["manager"] == applier.manager
        && object::text(entry, &["subresource"]) == applier.subresource
}

fn entry(applier: &Applier<'_>, operation: &str) -> Value {
    let mut entry = json!({
        "manager": applier.manager,
        "operation": operation,
        "apiVersion": applier.api_version,
        "time": object::now(),
        "fieldsType": "FieldsV1",
    });
    if !applier.subresource.is_empty() {
        entry["subresource"] = json!(applier.subresource);
    }
    entry
}

fn merge(live: &mut Value, config: &Value, at: &Place<'_>) {
    match (&mut *live, config) {
        (Value::Object(old), Value::Object(new)) if !is_atomic_map(at) => {
            for (key, value) in new {
                merge(
                    old.entry(key.as_str()).or_insert(Value::Null),
                    value,
                    &at.below(key),
                );
            }
        }
        (Value::Array(old), Value::Array(new)) => merge_list(old, new, at),
        _ => *live = config.clone(),
    }
}

fn merge_list(old: &mut Vec<Value>, new: &[Value], at: &Place<'_>) {
    match list_type(at) {
        ListType::Atomic => *old = new.to_vec(),
        ListType::Set => {
            for element in new {
                if !old.contains(element) {
                    old.push(element.clone());
                }
            }
        }
        ListType::Map(keys) => {
            for element in new {
                let key = element_key(element, keys);
                match old.iter_mut().find(|existing| element_key(existing, keys) == key) {
                    Some(existing) => merge(existing, element, &at.element()),
                    None => old.push(element.clone()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by<'a>(manager: &'a str, force: bool) -> Applier<'a> {
        Applier {
            manager,
            api_version: "v1",
            subresource: "",
            force,
        }
    }

    fn config(labels: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": labels}})
    }

    #[test]
    fn what_is_no_longer_applied_is_removed_unless_another_wants_it() {
        let one = apply(&json!({}), &config(&json!({"a": "1", "b": "1"})), &by("x", false)).expect("new");
        let two = apply(&one, &config(&json!({"b": "1", "c": "1"})), &by("y", false)).expect("no conflict");
        let three = apply(&two, &config(&json!({"d": "1"})), &by("x", false)).expect("no conflict");
        assert_eq!(three["metadata"]["labels"], json!({"b": "1", "c": "1", "d": "1"}));
    }

    #[test]
    fn an_element_that_is_no_longer_applied_goes_as_a_whole() {
        let pod = |env: &Value| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                "spec": {"containers": [{"name": "c", "env": env}]}})
        };
        let (a, b) = (
            json!({"name": "A", "value": "1"}),
            json!({"name": "B", "value": "2"}),
        );
        let one = apply(&json!({}), &pod(&json!([a, b])), &by("x", false)).expect("new");
        let two = apply(&one, &pod(&json!([a])), &by("x", false)).expect("no conflict");
        assert_eq!(two["spec"]["containers"][0]["env"], json!([a]));
    }

    #[test]
    fn another_value_is_a_conflict_unless_forced() {
        let one = apply(&json!({}), &config(&json!({"a": "1"})), &by("x", false)).expect("new");
        let conflicts = apply(&one, &config(&json!({"a": "2"})), &by("y", false)).expect_err("x owns it");
        assert_eq!(
            (conflicts[0].manager.as_str(), conflicts[0].field.as_str()),
            ("x", ".metadata.labels.a")
        );
        let two = apply(&one, &config(&json!({"a": "2"})), &by("y", true)).expect("forced");
        assert_eq!(two["metadata"]["labels"]["a"], "2");
        apply(&two, &config(&json!({"a": "3"})), &by("y", false)).expect("it is y's now");
    }

    #[test]
    fn an_update_takes_fields_over() {
        let mut one = apply(&json!({}), &config(&json!({"a": "1"})), &by("x", false)).expect("new");
        let old = one.clone();
        one["metadata"]["labels"]["a"] = json!("9");
        track_update(&old, &mut one, "editor", "", true);
        let conflicts = apply(&one, &config(&json!({"a": "1"})), &by("x", false)).expect_err("the editor's");
        assert_eq!(conflicts[0].manager, "editor");
    }

    #[test]
    fn changing_an_element_takes_its_fields_and_not_the_element() {
        let set = |env: &Value| {
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "a"}, "spec": {"template": {"spec": {
                "containers": [{"name": "c", "image": "i", "resources": {}, "env": env}]}}}})
        };
        let chart = set(&json!([{"name": "A", "value": "1"}]));
        let mut live = apply(&json!({}), &chart, &by("helm", false)).expect("new");
        // `kubectl set env` and `kubectl set resources`.
        let old = live.clone();
        let container = &mut live["spec"]["template"]["spec"]["containers"][0];
        container["env"] = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]);
        container["resources"] = json!({"limits": {"memory": "1Gi"}});
        track_update(&old, &mut live, "kubectl-set", "", true);
        let mut next = chart.clone();
        next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("i2");
        let merged = apply(&live, &next, &by("helm", false)).expect("nobody else has the image");
        let container = &merged["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "i2");
        assert_eq!(container["env"][1], json!({"name": "B", "value": "2"}));
        assert_eq!(container["resources"]["limits"]["memory"], "1Gi");
        // Fields that another manager has set belong to that manager.
        let mut clash = chart;
        clash["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "B", "value": "3"}]);
        assert_eq!(
            apply(&merged, &clash, &by("helm", false)).expect_err("kubectl's")[0].manager,
            "kubectl-set"
        );
    }

    #[test]
    fn ports_of_a_service_are_merged_by_their_keys() {
        let service = |ports: &Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": ports}});
        let mine = service(&json!([{"port": 80, "name": "http", "targetPort": 8080}]));
        let one = apply(&json!({}), &mine, &by("x", false)).expect("new");
        let theirs = service(&json!([{"port": 90, "name": "metrics"}, {"port": 80}]));
        let two = apply(&one, &theirs, &by("y", false)).expect("no value differs");
        assert_eq!(
            two["spec"]["ports"],
            json!([{"port": 80, "name": "http", "targetPort": 8080}, {"port": 90, "name": "metrics"}])
        );
        let three = apply(&two, &mine, &by("x", false)).expect("no conflict");
        assert_eq!(three["spec"]["ports"], two["spec"]["ports"]);
    }

    #[test]
    fn a_client_that_renames_an_owner_is_believed() {
        let mut one = config(&json!({"a": "1"}));
        track_create(&mut one, "helm");
        let old = one.clone();
        // Helm 4 does this to a release that helm 3 made.
        one["metadata"]["managedFields"][0]["operation"] = json!("Apply");
        track_update(&old, &mut one, "helm", "", true);
        let two = apply(&one, &config(&json!({"a": "2"})), &by("helm", false)).expect("its own");
        assert_eq!(two["metadata"]["labels"]["a"], "2");
        assert_eq!(
            two["metadata"]["managedFields"].as_array().expect("a list").len(),
            1
        );
    }

    #[test]
    fn applying_twice_changes_nothing() {
        let one = apply(&json!({}), &config(&json!({"a": "1"})), &by("x", false)).expect("new");
        assert_eq!(
            apply(&one, &config(&json!({"a": "1"})), &by("x", false)).expect("the same"),
            one
        );
    }
}
