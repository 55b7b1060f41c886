//! The object store: every object of every kind, one revision counter, and a bounded log of changes
//! per kind.
//!
//! The store knows nothing of HTTP, defaulting or validation. It guarantees three things:
//!
//! - A write happens against the version that its author read.
//! - Revisions only grow.
//! - A watcher sees every change once, in order.

mod change;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) use change::{Change, frame, framed};

use super::kinds::{KINDS, ResourceKind};
use super::object;

/// Changes kept per kind. A watcher that falls further behind gets 410 Gone and lists again. The
/// real watch cache starts at 100 and grows. 1024 changes cover a 9-node formation within a few
/// megabytes.
const HISTORY: usize = 1024;

/// The most events kept. Kubernetes drops events after an hour; a count bounds memory at any rate.
const MAX_EVENTS: usize = 10_000;

/// Number of oldest events dropped at once, so that the search for them is rare.
const EVENTS_DROPPED_AT_ONCE: usize = 1_000;

/// The most objects kept per kind. A broken controller or client must not fill the machine's
/// memory.
const MAX_OBJECTS: usize = 20_000;

/// Approximate limit on the bytes of all objects, like etcd's `--quota-backend-bytes`.
const MAX_SIZE: usize = 256 << 20;

/// Approximate limit on the bytes of the changes kept per kind.
const MAX_HISTORY_SIZE: usize = 32 << 20;

/// Namespace (empty for cluster-scoped objects) and name.
pub(crate) type Key = (String, String);

/// One version of one object.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) revision: u64,
    pub(crate) value: Value,
    /// Approximate bytes of the object as JSON.
    size: usize,
    json: OnceLock<Bytes>,
}

impl Stored {
    fn new(mut value: Value, revision: u64) -> Self {
        object::meta_mut(&mut value).insert("resourceVersion".to_owned(), json!(revision.to_string()));
        Self {
            revision,
            size: object::text_size(&value),
            value,
            json: OnceLock::new(),
        }
    }

    /// Returns a version that is shown but not kept, for a dry run.
    pub(crate) fn unsaved(value: Value) -> Self {
        Self {
            revision: 0,
            size: 0,
            value,
            json: OnceLock::new(),
        }
    }

    /// Returns the object as JSON, serialised once.
    pub(crate) fn json(&self) -> &Bytes {
        self.json.get_or_init(|| Bytes::from(self.value.to_string()))
    }
}

/// The reason why a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitError {
    /// An object of that name already exists.
    Exists,
    /// There is no object of that name.
    Missing,
    /// The object has changed since its author read it.
    Stale,
    /// The store is full.
    Full,
}

/// The requested changes are no longer in the log, or do not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooOld {
    /// The oldest revision from which changes are still available.
    pub(crate) oldest: u64,
}

#[derive(Debug, Default)]
struct Collection {
    objects: BTreeMap<Key, Arc<Stored>>,
    log: VecDeque<Arc<Change>>,
    /// Approximate bytes of the objects in the log.
    log_size: usize,
    /// Changes up to this revision have left the log.
    floor: u64,
}

#[derive(Debug)]
struct Inner {
    revision: u64,
    collections: Vec<Collection>,
    /// Approximate bytes of all present objects.
    size: usize,
}

/// The object store of an API server.
#[derive(Debug)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
    /// Per kind, the revision of its last change.
    changed: Vec<watch::Sender<u64>>,
}

impl Store {
    pub(crate) fn new() -> Self {
        let collections = KINDS.iter().map(|_| Collection::default()).collect();
        Self {
            inner: Mutex::new(Inner {
                revision: 1,
                collections,
                size: 0,
            }),
            changed: KINDS.iter().map(|_| watch::Sender::new(1)).collect(),
        }
    }

    /// Returns the revision of the last write to anything.
    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    pub(crate) fn get(
        &self,
        kind: &'static ResourceKind,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Stored>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.lock().collections[kind.storage().id()]
            .objects
            .get(&key)
            .cloned()
    }

    /// Lists all objects of a kind (in one namespace, unless it is empty), with the store's
    /// revision.
    pub(crate) fn list(&self, kind: &'static ResourceKind, namespace: &str) -> (u64, Vec<Arc<Stored>>) {
        let inner = self.lock();
        let objects = &inner.collections[kind.storage().id()].objects;
        (inner.revision, in_namespace(objects, namespace))
    }

    /// Lists the objects as they were at an earlier revision.
    pub(crate) fn list_at(
        &self,
        kind: &'static ResourceKind,
        namespace: &str,
        revision: u64,
    ) -> Result<Vec<Arc<Stored>>, TooOld> {
        let inner = self.lock();
        let collection = &inner.collections[kind.storage().id()];
        if revision < collection.floor {
            return Err(TooOld {
                oldest: collection.floor,
            });
        }
        let mut objects = collection.objects.clone();
        for change in collection
            .log
            .iter()
            .rev()
            .take_while(|change| change.revision > revision)
        {
            match &change.previous {
                Some(previous) => drop(objects.insert(change.key.clone(), Arc::clone(previous))),
                None => drop(objects.remove(&change.key)),
            }
        }
        Ok(in_namespace(&objects, namespace))
    }

    /// Writes an object that must not exist yet.
    pub(crate) fn create(
        &self,
        kind: &'static ResourceKind,
        value: Value,
    ) -> Result<Arc<Stored>, CommitError> {
        let key = value_key(&value);
        self.commit(kind, &key, |previous| match previous {
            Some(_) => Err(CommitError::Exists),
            None => Ok(Some(value)),
        })
        .map(|change| change.current.clone().expect("a creation leaves an object"))
    }

    /// Replaces the version that has revision `seen`.
    pub(crate) fn update(
        &self,
        kind: &'static ResourceKind,
        seen: u64,
        value: Value,
    ) -> Result<Arc<Stored>, CommitError> {
        let key = value_key(&value);
        let change = self.commit(kind, &key, |previous| check(previous, seen).map(|()| Some(value)))?;
        Ok(change.current.clone().expect("an update leaves an object"))
    }

    /// Removes the version that has revision `seen`. Watchers are shown `last` as its final state.
    pub(crate) fn delete(
        &self,
        kind: &'static ResourceKind,
        seen: u64,
        last: &Value,
    ) -> Result<Value, CommitError> {
        let change = self.commit(kind, &value_key(last), |previous| {
            check(previous, seen).map(|()| None)
        })?;
        let mut last = last.clone();
        object::meta_mut(&mut last).insert("resourceVersion".to_owned(), json!(change.revision.to_string()));
        Ok(last)
    }

    /// Returns a receiver that reports changes of a kind. It holds the revision of the last change.
    pub(crate) fn subscribe(&self, kind: &'static ResourceKind) -> watch::Receiver<u64> {
        self.changed[kind.storage().id()].subscribe()
    }

    /// Returns all changes of a kind between `revision` and the store's revision, and the latter.
    pub(crate) fn changes_since(
        &self,
        kind: &'static ResourceKind,
        revision: u64,
    ) -> Result<(u64, Vec<Arc<Change>>), TooOld> {
        let inner = self.lock();
        let collection = &inner.collections[kind.storage().id()];
        if revision < collection.floor {
            return Err(TooOld {
                oldest: collection.floor,
            });
        }
        let start = collection
            .log
            .partition_point(|change| change.revision <= revision);
        Ok((inner.revision, collection.log.range(start..).cloned().collect()))
    }

    fn commit(
        &self,
        kind: &'static ResourceKind,
        key: &Key,
        decide: impl FnOnce(Option<&Stored>) -> Result<Option<Value>, CommitError>,
    ) -> Result<Arc<Change>, CommitError> {
        let id = kind.storage().id();
        let mut inner = self.lock();
        let previous = inner.collections[id].objects.get(key).cloned();
        let next = decide(previous.as_deref())?;
        let next = next.map(|value| Stored::new(value, inner.revision + 1));
        inner.check_room(id, previous.as_deref(), next.as_ref())?;
        let change = inner.apply(id, key.clone(), previous, next);
        if kind.storage().kind == "Event" {
            inner.drop_old_events(id);
        }
        let revision = inner.revision;
        drop(inner);
        self.changed[id].send_replace(revision);
        Ok(change)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic cannot leave a half-made change behind: values are built before they are
        // inserted.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn apply(
        &mut self,
        id: usize,
        key: Key,
        previous: Option<Arc<Stored>>,
        next: Option<Stored>,
    ) -> Arc<Change> {
        self.revision += 1;
        let current = next.map(Arc::new);
        self.size -= size_of(previous.as_deref());
        self.size += size_of(current.as_deref());
        let collection = &mut self.collections[id];
        match &current {
            Some(stored) => drop(collection.objects.insert(key.clone(), Arc::clone(stored))),
            None => drop(collection.objects.remove(&key)),
        }
        let change = Arc::new(Change::new(self.revision, key, previous, current));
        collection.log_size += size_of(change.current.as_deref());
        collection.log.push_back(Arc::clone(&change));
        while collection.log.len() > HISTORY || collection.log_size > MAX_HISTORY_SIZE {
            let Some(oldest) = collection.log.pop_front() else {
                break;
            };
            collection.log_size -= size_of(oldest.current.as_deref());
            collection.floor = oldest.revision;
        }
        change
    }

    /// Checks that there is room for the next version. A write that adds no bytes always passes.
    fn check_room(
        &self,
        id: usize,
        previous: Option<&Stored>,
        next: Option<&Stored>,
    ) -> Result<(), CommitError> {
        let (had, has) = (size_of(previous), size_of(next));
        let one_more = previous.is_none() && next.is_some();
        let too_many = one_more && self.collections[id].objects.len() >= MAX_OBJECTS;
        if too_many || (has > had && self.size - had + has > MAX_SIZE) {
            return Err(CommitError::Full);
        }
        Ok(())
    }

    fn drop_old_events(&mut self, id: usize) {
        if self.collections[id].objects.len() <= MAX_EVENTS {
            return;
        }
        let mut by_age: Vec<(u64, Key)> = self.collections[id]
            .objects
            .iter()
            .map(|(key, stored)| (stored.revision, key.clone()))
            .collect();
        by_age.sort_unstable();
        for (_, key) in by_age.into_iter().take(EVENTS_DROPPED_AT_ONCE) {
            let previous = self.collections[id].objects.get(&key).cloned();
            self.apply(id, key, previous, None);
        }
    }
}

fn size_of(stored: Option<&Stored>) -> usize {
    stored.map_or(0, |stored| stored.size)
}

fn check(previous: Option<&Stored>, seen: u64) -> Result<(), CommitError> {
    match previous {
        None => Err(CommitError::Missing),
        Some(stored) if stored.revision != seen => Err(CommitError::Stale),
        Some(_) => Ok(()),
    }
}

fn value_key(value: &Value) -> Key {
    (
        object::namespace(value).to_owned(),
        object::name(value).to_owned(),
    )
}

fn in_namespace(objects: &BTreeMap<Key, Arc<Stored>>, namespace: &str) -> Vec<Arc<Stored>> {
    if namespace.is_empty() {
        return objects.values().cloned().collect();
    }
    objects
        .range((namespace.to_owned(), String::new())..)
        .take_while(|((ns, _), _)| ns == namespace)
        .map(|(_, stored)| Arc::clone(stored))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::find;

    fn pod(name: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "ns"}})
    }

    #[test]
    fn writes_are_against_the_version_seen() {
        let (store, pods) = (Store::new(), find("", "v1", "pods").expect("served"));
        let first = store.create(pods, pod("a")).expect("created");
        assert_eq!(
            store.create(pods, pod("a")).expect_err("again"),
            CommitError::Exists
        );
        let second = store.update(pods, first.revision, pod("a")).expect("updated");
        assert!(second.revision > first.revision);
        assert_eq!(
            store.update(pods, first.revision, pod("a")).expect_err("stale"),
            CommitError::Stale
        );
        store.delete(pods, second.revision, &pod("a")).expect("deleted");
        assert_eq!(
            store.update(pods, second.revision, pod("a")).expect_err("gone"),
            CommitError::Missing
        );
    }

    #[test]
    fn earlier_lists_are_rebuilt_from_the_log() {
        let (store, pods) = (Store::new(), find("", "v1", "pods").expect("served"));
        let a = store.create(pods, pod("a")).expect("created");
        let then = store.revision();
        store.create(pods, pod("b")).expect("created");
        store.delete(pods, a.revision, &pod("a")).expect("deleted");
        let names: Vec<String> = store
            .list_at(pods, "ns", then)
            .expect("in the log")
            .iter()
            .map(|stored| object::name(&stored.value).to_owned())
            .collect();
        assert_eq!(names, ["a"]);
    }

    #[test]
    fn the_store_is_bounded_in_number_and_in_bytes() {
        let (store, pods) = (Store::new(), find("", "v1", "pods").expect("served"));
        let first = store.create(pods, pod("p0")).expect("created");
        for index in 1..MAX_OBJECTS {
            store
                .create(pods, pod(&format!("p{index}")))
                .expect("there is room");
        }
        assert_eq!(
            store.create(pods, pod("more")).expect_err("full"),
            CommitError::Full
        );
        store
            .update(pods, first.revision, pod("p0"))
            .expect("nothing more to keep");

        let (store, maps) = (Store::new(), find("", "v1", "configmaps").expect("served"));
        let map = |index: usize| json!({"metadata": {"name": format!("m{index}")}, "data": {"k": "x".repeat(1 << 20)}});
        let refused = (0..=256).find_map(|index| store.create(maps, map(index)).err());
        assert_eq!(refused, Some(CommitError::Full));
        assert!(store.lock().collections[maps.id()].log_size <= MAX_HISTORY_SIZE);
    }

    #[test]
    fn history_is_bounded_and_says_so() {
        let (store, pods) = (Store::new(), find("", "v1", "pods").expect("served"));
        let start = store.revision();
        for index in 0..=HISTORY {
            store.create(pods, pod(&format!("p{index}"))).expect("created");
        }
        assert!(store.changes_since(pods, start).is_err());
        let (_, changes) = store.changes_since(pods, start + 1).expect("the rest is there");
        assert_eq!(changes.len(), HISTORY);
    }
}
