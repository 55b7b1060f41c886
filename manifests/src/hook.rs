//! Helm hooks as values: which object runs at which event, in which order, and when it is deleted.

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
    /// Helm's spelling, as in the `helm.sh/hook` annotation.
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

/// When Helm deletes a hook's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookDeletePolicy {
    /// A leftover of an earlier run goes before the new one is created.
    BeforeHookCreation,
    /// The object goes as soon as it succeeded.
    HookSucceeded,
}

impl HookDeletePolicy {
    /// Helm's spelling, as in the `helm.sh/hook-delete-policy` annotation.
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

/// One hook. What the fields say is also in the object's annotations, for Helm itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// When it runs.
    pub events: Vec<HookEvent>,
    /// Hooks of one event run by ascending weight; without an annotation Helm takes 0.
    pub weight: i32,
    /// When it is deleted.
    pub delete_policies: Vec<HookDeletePolicy>,
    /// What runs.
    pub object: HookObject,
}

impl Hook {
    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        let metadata = match &self.object {
            HookObject::Job(job) => &job.metadata,
            HookObject::Pod(pod) => &pod.metadata,
        };
        metadata.name.as_deref().expect("every rendered object is named")
    }

    /// The object as JSON, ready for the API server.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let value = match &self.object {
            HookObject::Job(job) => serde_json::to_value(job),
            HookObject::Pod(pod) => serde_json::to_value(pod),
        };
        value.expect("Kubernetes objects are plain JSON")
    }
}

/// Helm's annotations for a hook; no weight means no annotation, as the chart's test Pod has none.
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
