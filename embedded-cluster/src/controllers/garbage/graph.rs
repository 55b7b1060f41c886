//! The graph of owners and dependents, by UID.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::ApiResource;

/// The finalizer of `DELETE` with propagation policy Foreground: the owner stays until its blocking
/// dependents are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of `DELETE` with propagation policy Orphan: dependents lose their owner first.
pub(crate) const ORPHAN: &str = "orphan";

/// The facts about one object.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) resource: ApiResource,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) owners: Vec<OwnerReference>,
    pub(crate) finalizers: Vec<String>,
    pub(crate) terminating: bool,
}

/// A task for one object, by UID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// Deletion, if the object's owners turn out to be gone.
    Collect(String),
    /// Deletion although the owner still exists: the owner waits for this deletion.
    DeleteForOwner(String),
    /// Removal of this owner from the object's references.
    Disown { uid: String, owner: String },
    /// Removal of this finalizer from the object.
    Unblock { uid: String, finalizer: &'static str },
}

/// The graph of every watched object.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: BTreeMap<String, Node>,
    dependents: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Returns the facts about an object.
    pub(crate) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Records a change and returns the tasks that follow from it.
    pub(crate) fn observe(&mut self, meta: &ObjectMeta, resource: ApiResource, deleted: bool) -> Vec<Task> {
        let Some(uid) = meta.uid.clone() else {
            return Vec::new();
        };
        let before = self.forget(&uid);
        if deleted {
            let owners = before.map(|node| node.owners).unwrap_or_default();
            let mut tasks: Vec<_> = self.dependents_of(&uid).map(Task::Collect).collect();
            // An owner that waits for its dependents may have waited for this one.
            tasks.extend(owners.iter().flat_map(|owner| self.finish(&owner.uid)));
            return tasks;
        }
        let node = Node {
            resource,
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            terminating: meta.deletion_timestamp.is_some(),
        };
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        let unknown_owner = node
            .owners
            .iter()
            .any(|owner| !self.nodes.contains_key(&owner.uid));
        let let_go: Vec<_> = before
            .iter()
            .flat_map(|before| &before.owners)
            .filter(|owner| !node.owners.iter().any(|kept| kept.uid == owner.uid))
            .map(|owner| owner.uid.clone())
            .collect();
        let going = node.terminating;
        self.nodes.insert(uid.clone(), node);
        let mut tasks: Vec<_> = let_go.iter().flat_map(|owner| self.finish(owner)).collect();
        if going {
            tasks.extend(self.finish(&uid));
        } else if unknown_owner {
            tasks.push(Task::Collect(uid));
        }
        tasks
    }

    /// Returns the next step of a foreground or orphan deletion.
    fn finish(&self, uid: &str) -> Vec<Task> {
        let Some(node) = self.nodes.get(uid).filter(|node| node.terminating) else {
            return Vec::new();
        };
        let has = |finalizer: &str| node.finalizers.iter().any(|found| found == finalizer);
        if has(ORPHAN) {
            let owner = uid.to_owned();
            let disown = |dependent| Task::Disown {
                uid: dependent,
                owner: owner.clone(),
            };
            let tasks: Vec<_> = self.dependents_of(uid).map(disown).collect();
            return if tasks.is_empty() {
                vec![unblock(uid, ORPHAN)]
            } else {
                tasks
            };
        }
        if has(FOREGROUND) {
            let tasks: Vec<_> = self
                .dependents_of(uid)
                .filter(|dependent| self.goes_with(dependent))
                .map(Task::DeleteForOwner)
                .collect();
            let blocked = self
                .dependents_of(uid)
                .any(|dependent| self.blocks(&dependent, uid));
            return if blocked || !tasks.is_empty() {
                tasks
            } else {
                vec![unblock(uid, FOREGROUND)]
            };
        }
        Vec::new()
    }

    fn goes_with(&self, dependent: &str) -> bool {
        self.nodes.get(dependent).is_some_and(|node| !node.terminating)
    }

    fn blocks(&self, dependent: &str, owner: &str) -> bool {
        let node = self.nodes.get(dependent);
        node.is_some_and(|node| {
            node.owners
                .iter()
                .any(|found| found.uid == owner && found.block_owner_deletion == Some(true))
        })
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = String> {
        self.dependents.get(uid).cloned().unwrap_or_default().into_iter()
    }

    fn forget(&mut self, uid: &str) -> Option<Node> {
        let node = self.nodes.remove(uid)?;
        for owner in &node.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        Some(node)
    }
}

fn unblock(uid: &str, finalizer: &'static str) -> Task {
    Task::Unblock {
        uid: uid.to_owned(),
        finalizer,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn meta(uid: &str, owner: Option<&str>, more: &str) -> ObjectMeta {
        let owner = owner.map_or(String::new(), |owner| {
            format!("ownerReferences: [{{apiVersion: v1, kind: K, name: {owner}, uid: {owner}, blockOwnerDeletion: true}}],")
        });
        serde_yaml::from_str(&format!("{{name: {uid}, uid: {uid}, {owner} {more}}}")).expect("metadata")
    }

    struct Watched(Graph);

    impl Watched {
        fn see(&mut self, meta: &ObjectMeta, deleted: bool) -> Vec<Task> {
            self.0.observe(meta, ApiResource::erase::<Pod>(&()), deleted)
        }
    }

    fn owner_and_dependent() -> Watched {
        let mut watched = Watched(Graph::default());
        assert!(watched.see(&meta("set", None, ""), false).is_empty());
        assert!(watched.see(&meta("pod", Some("set"), ""), false).is_empty());
        watched
    }

    const GOING: &str = "deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: ";

    #[test]
    fn dependents_follow_an_owner_that_is_gone() {
        let mut watched = owner_and_dependent();
        assert_eq!(
            watched.see(&meta("set", None, ""), true),
            [Task::Collect("pod".into())]
        );
    }

    #[test]
    fn an_object_with_an_unknown_owner_is_looked_into() {
        let mut watched = Watched(Graph::default());
        assert_eq!(
            watched.see(&meta("pod", Some("never-seen"), ""), false),
            [Task::Collect("pod".into())]
        );
    }

    #[test]
    fn a_foreground_deletion_waits_for_its_dependents() {
        let mut watched = owner_and_dependent();
        let going = meta("set", None, &format!("{GOING} [foregroundDeletion]"));
        assert_eq!(watched.see(&going, false), [Task::DeleteForOwner("pod".into())]);
        let pod_going = meta("pod", Some("set"), &format!("{GOING} []"));
        assert!(watched.see(&pod_going, false).is_empty());
        assert!(watched.see(&going, false).is_empty(), "the pod still blocks");
        assert_eq!(watched.see(&pod_going, true), [unblock("set", FOREGROUND)]);
    }

    #[test]
    fn an_orphaning_deletion_lets_its_dependents_go() {
        let mut watched = owner_and_dependent();
        let going = meta("set", None, &format!("{GOING} [orphan]"));
        assert_eq!(
            watched.see(&going, false),
            [Task::Disown {
                uid: "pod".into(),
                owner: "set".into()
            }]
        );
        assert_eq!(
            watched.see(&meta("pod", None, ""), false),
            [unblock("set", ORPHAN)]
        );
    }
}
