//! One change in the log and its watch event, which is serialised once for all watchers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Key, Stored};
use crate::api::object;
use crate::api::selector::Selector;

/// The type of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeType {
    Added,
    Modified,
    Deleted,
}

impl ChangeType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// A creation, an update or a deletion.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) previous: Option<Arc<Stored>>,
    pub(crate) current: Option<Arc<Stored>>,
    departed: OnceLock<Value>,
    frames: [OnceLock<Bytes>; 3],
}

impl Change {
    pub(super) fn new(
        revision: u64,
        key: Key,
        previous: Option<Arc<Stored>>,
        current: Option<Arc<Stored>>,
    ) -> Self {
        Self {
            revision,
            key,
            previous,
            current,
            departed: OnceLock::new(),
            frames: Default::default(),
        }
    }

    /// Returns the change as seen by a client that watches objects in `namespace` that match
    /// `selector`.
    pub(crate) fn seen_by(&self, namespace: &str, selector: &Selector) -> Option<ChangeType> {
        if !namespace.is_empty() && self.key.0 != namespace {
            return None;
        }
        let visible = |stored: &Option<Arc<Stored>>| {
            stored
                .as_ref()
                .is_some_and(|s| selector.is_empty() || selector.matches(&s.value))
        };
        match (visible(&self.previous), visible(&self.current)) {
            (false, true) => Some(ChangeType::Added),
            (true, true) => Some(ChangeType::Modified),
            (true, false) => Some(ChangeType::Deleted),
            (false, false) => None,
        }
    }

    /// Returns the object as this change shows it. A deletion shows the last state, at the revision
    /// of the deletion.
    pub(crate) fn object(&self, change_type: ChangeType) -> &Value {
        match (change_type, &self.current) {
            (ChangeType::Added | ChangeType::Modified, Some(current)) => &current.value,
            _ => self.departed.get_or_init(|| self.departed_object()),
        }
    }

    /// Returns the watch event in JSON, with its newline; shared by all watchers.
    pub(crate) fn frame(&self, change_type: ChangeType) -> Bytes {
        let slot = &self.frames[change_type as usize];
        let made = slot.get_or_init(|| match (&self.current, change_type) {
            // Answers to requests share this text.
            (Some(current), ChangeType::Added | ChangeType::Modified) => {
                framed(change_type.as_str(), current.json())
            }
            _ => frame(change_type.as_str(), self.object(change_type)),
        });
        made.clone()
    }

    fn departed_object(&self) -> Value {
        let mut value = self
            .previous
            .as_ref()
            .map_or_else(|| json!({}), |previous| previous.value.clone());
        object::meta_mut(&mut value).insert("resourceVersion".to_owned(), json!(self.revision.to_string()));
        value
    }
}

/// Builds one line of a watch response.
pub(crate) fn frame(change_type: &str, object: &Value) -> Bytes {
    framed(change_type, object.to_string().as_bytes())
}

/// Builds one line of a watch response from an object that is already JSON.
pub(crate) fn framed(change_type: &str, object: &[u8]) -> Bytes {
    let head = format!("{{\"type\":\"{change_type}\",\"object\":");
    Bytes::from([head.as_bytes(), object, b"}\n"].concat())
}
