//! Helm hooks as values: the object, its events, its weight, and its deletion.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::release::StringMap;

/// The moment at which Helm runs a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookEvent {
    /// After the objects of an install were applied (not after they are ready, unless `--wait`).
    PostInstall,
    /// Before the objects of an upgrade are applied.
    PreUpgrade,
    /// After the objects of an upgrade were applied.
    PostUpgrade,
    /// `helm test`.
    Test,
}

impl HookEvent {
    /// Returns Helm's spelling, as in the `helm.sh/hook` annotation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PostInstall => "post-install",
            Self::PreUpgrade => "pre-upgrade",
            Self::PostUpgrade => "post-upgrade",
            Self::Test => "test",
        }
    }
}

/// The moment at which Helm deletes a hook's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookDeletePolicy {
    /// Deletes a leftover of an earlier run before the new object is created.
    BeforeHookCreation,
    /// Deletes the object as soon as it has succeeded.
    HookSucceeded,
}

impl HookDeletePolicy {
    /// Returns Helm's spelling, as in the `helm.sh/hook-delete-policy` annotation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeHookCreation => "before-hook-creation",
            Self::HookSucceeded => "hook-succeeded",
        }
    }
}

/// The delete policies of every hook of the chart.
pub(crate) const DELETE_POLICIES: [HookDeletePolicy; 2] = [
    HookDeletePolicy::BeforeHookCreation,
    HookDeletePolicy::HookSucceeded,
];

/// The object that a hook runs.
#[derive(Debug, Clone, PartialEq)]
pub enum HookObject {
    /// A Job: Helm waits for `Complete` or `Failed`.
    Job(Box<Job>),
    /// A Pod: Helm waits for `Succeeded` or `Failed`.
    Pod(Box<Pod>),
}

/// One hook. Its fields are also annotations of the object, for Helm itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// The events at which the hook runs.
    pub events: Vec<HookEvent>,
    /// Hooks of one event run by ascending weight; without an annotation Helm takes 0.
    pub weight: i32,
    /// The moments at which the hook is deleted.
    pub delete_policies: Vec<HookDeletePolicy>,
    /// The object that runs.
    pub object: HookObject,
}

impl Hook {
    /// Returns the object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        let metadata = match &self.object {
            HookObject::Job(job) => &job.metadata,
            HookObject::Pod(pod) => &pod.metadata,
        };
        metadata.name.as_deref().expect("every rendered object is named")
    }

    /// Returns the object as JSON, ready for the API server.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let value = match &self.object {
            HookObject::Job(job) => serde_json::to_value(job),
            HookObject::Pod(pod) => serde_json::to_value(pod),
        };
        value.expect("Kubernetes objects are plain JSON")
    }
}

/// Returns Helm's annotations for a hook. Without a weight it has none, like the chart's test Pod.
pub(crate) fn annotations(event: HookEvent, weight: Option<i32>) -> StringMap {
    let policies: Vec<_> = DELETE_POLICIES.iter().map(|policy| policy.as_str()).collect();
    let mut annotations = StringMap::from([
        ("helm.sh/hook".to_owned(), event.as_str().to_owned()),
        ("helm.sh/hook-delete-policy".to_owned(), policies.join(",")),
    ]);
    if let Some(weight) = weight {
        annotations.insert("helm.sh/hook-weight".to_owned(), weight.to_string());
    }
    annotations
}
