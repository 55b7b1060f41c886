//! Manifests as Helm sees them. An object with the annotation `helm.sh/hook` is a hook; all others
//! are resources.

use std::sync::Arc;
use std::time::Duration;

use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chart::HelmValues;
use super::error::ReleaseError;
use super::object::{Object, annotations};

/// The annotation that makes an object a hook.
pub const HOOK_ANNOTATION: &str = "helm.sh/hook";
const WEIGHT_ANNOTATION: &str = "helm.sh/hook-weight";
const DELETE_ANNOTATION: &str = "helm.sh/hook-delete-policy";

/// The end of the name of the Job that forms the cluster (chart README, "Chart Structure").
pub const INIT_JOB: &str = "cluster-init";

/// Everything that a release deploys.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    /// Objects to apply.
    pub resources: Vec<Object>,
    /// Objects that run on certain events.
    pub hooks: Vec<Hook>,
    /// The values of the rendering, for a chart on disk.
    pub values: Option<Arc<HelmValues>>,
}

impl Bundle {
    /// Sorts manifests into resources and hooks.
    pub fn from_values(manifests: impl IntoIterator<Item = Value>) -> Result<Self, ReleaseError> {
        let mut bundle = Self::default();
        for manifest in manifests {
            let object = Object::from_value(manifest)?;
            match Hook::from_object(&object)? {
                Some(hook) => bundle.hooks.push(hook),
                None => bundle.resources.push(object),
            }
        }
        Ok(bundle)
    }

    /// Creates a bundle from our own manifests.
    pub fn from_manifests(rendered: &manifests::Manifests) -> Result<Self, ReleaseError> {
        Self::from_values(
            rendered
                .objects()
                .into_iter()
                .chain(rendered.hooks.iter().map(manifests::Hook::to_value)),
        )
    }

    /// Fails for an object outside of `namespace`. A trial may change only its own namespace.
    pub fn stays_in(&self, namespace: &str) -> Result<(), ReleaseError> {
        let hooks = self.hooks.iter().map(|hook| &hook.object);
        for object in self.resources.iter().chain(hooks) {
            let place = match &object.content.metadata.namespace {
                _ if !object.is_namespaced() => "at the cluster's scope".to_owned(),
                Some(other) if other != namespace => format!("in namespace {other}"),
                _ => continue,
            };
            return Err(ReleaseError::Foreign {
                kind: object.kind().to_owned(),
                name: object.name().to_owned(),
                place,
            });
        }
        Ok(())
    }

    /// Returns the resource of the same kind and name, if the bundle has one.
    pub fn find(&self, other: &Object) -> Option<&Object> {
        self.resources
            .iter()
            .find(|object| object.kind() == other.kind() && object.name() == other.name())
    }

    /// Returns true if a resource or a hook has this kind and name.
    pub fn has(&self, kind: &str, name: &str) -> bool {
        let hooks = self.hooks.iter().map(|hook| &hook.object);
        let mut all = self.resources.iter().chain(hooks);
        all.any(|object| object.kind() == kind && object.name() == name)
    }

    /// Returns true if there is any StatefulSet: its pods are the servers.
    pub fn has_servers(&self) -> bool {
        self.resources.iter().any(|object| object.kind() == "StatefulSet")
    }

    /// Returns the longest time from a server's start to readiness, by its probe's delay and
    /// period.
    pub fn readiness_delay(&self) -> Duration {
        let sets = self
            .resources
            .iter()
            .filter(|object| object.kind() == "StatefulSet");
        let containers = sets.filter_map(|set| {
            set.content
                .data
                .pointer("/spec/template/spec/containers")?
                .as_array()
        });
        let seconds = containers.flatten().map(|container| {
            let probe = &container["readinessProbe"];
            let field = |name: &str| probe[name].as_u64().unwrap_or_default();
            field("initialDelaySeconds") + field("periodSeconds")
        });
        Duration::from_secs(seconds.max().unwrap_or_default())
    }

    /// Iterates over every object, hooks included. Tests of the checks mutate them.
    pub fn objects_mut(&mut self) -> impl Iterator<Item = &mut DynamicObject> {
        let hooks = self.hooks.iter_mut().map(|hook| &mut hook.object.content);
        self.resources
            .iter_mut()
            .map(|object| &mut object.content)
            .chain(hooks)
    }

    /// Renders every object as YAML documents, in the given order, without the data of Secrets.
    pub fn to_yaml(&self) -> String {
        let hooks = self.hooks.iter().map(|hook| &hook.object);
        let documents = self.resources.iter().chain(hooks).map(|object| {
            let mut content = object.content.clone();
            if object.kind() == "Secret" {
                for key in ["data", "stringData"] {
                    redact(content.data.get_mut(key));
                }
            }
            let yaml = serde_yaml::to_string(&content).unwrap_or_else(|error| format!("# {error}\n"));
            format!("---\n{yaml}")
        });
        documents.collect()
    }
}

/// The event that a hook runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookEvent {
    /// Before anything is created.
    PreInstall,
    /// After everything is created, but not necessarily ready.
    PostInstall,
    /// Before anything is changed.
    PreUpgrade,
    /// After everything is changed.
    PostUpgrade,
    /// Before anything is deleted.
    PreDelete,
    /// After everything is deleted.
    PostDelete,
    /// On `helm test`.
    Test,
    /// Before a rollback.
    PreRollback,
    /// After a rollback.
    PostRollback,
}

impl HookEvent {
    /// Returns its name in the annotation.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreInstall => "pre-install",
            Self::PostInstall => "post-install",
            Self::PreUpgrade => "pre-upgrade",
            Self::PostUpgrade => "post-upgrade",
            Self::PreDelete => "pre-delete",
            Self::PostDelete => "post-delete",
            Self::Test => "test",
            Self::PreRollback => "pre-rollback",
            Self::PostRollback => "post-rollback",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "pre-install" => Some(Self::PreInstall),
            "post-install" => Some(Self::PostInstall),
            "pre-upgrade" => Some(Self::PreUpgrade),
            "post-upgrade" => Some(Self::PostUpgrade),
            "pre-delete" => Some(Self::PreDelete),
            "post-delete" => Some(Self::PostDelete),
            // `test-success` is Helm 2's name, which Helm still accepts.
            "test" | "test-success" => Some(Self::Test),
            "pre-rollback" => Some(Self::PreRollback),
            "post-rollback" => Some(Self::PostRollback),
            _ => None,
        }
    }
}

/// An object that runs on certain events.
#[derive(Debug, Clone)]
pub struct Hook {
    /// The object, most often a Job.
    pub object: Object,
    /// The events that it runs on.
    pub events: Vec<HookEvent>,
    /// Lower weights run first.
    pub weight: i32,
    /// The conditions of its deletion.
    pub delete: DeletePolicy,
}

/// The conditions under which a hook's object is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletePolicy {
    /// The object of an earlier run is deleted before a new one is created.
    pub before_creation: bool,
    /// The object is deleted when all hooks of the event have succeeded.
    pub on_success: bool,
    /// The object is deleted when it failed.
    pub on_failure: bool,
}

impl Hook {
    /// Reads the hook annotations; `None` for an object that is not a hook.
    fn from_object(object: &Object) -> Result<Option<Self>, ReleaseError> {
        let annotations = annotations(&object.content);
        let Some(events) = annotations.get(HOOK_ANNOTATION) else {
            return Ok(None);
        };
        let refuse = |what: String| ReleaseError::Manifest {
            what: format!("{}/{} {what}", object.kind(), object.name()),
            source: None,
        };
        let parse = |name: &str| {
            HookEvent::parse(name.trim()).ok_or_else(|| refuse(format!("has an unknown hook event {name:?}")))
        };
        let events = events.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
        let weight = annotations.get(WEIGHT_ANNOTATION).map_or(Ok(0), |weight| {
            weight
                .trim()
                .parse()
                .map_err(|_| refuse(format!("has a hook weight {weight:?} that is not a number")))
        })?;
        let delete = delete_policy(annotations.get(DELETE_ANNOTATION))
            .map_err(|policy| refuse(format!("has an unknown hook delete policy {policy:?}")))?;
        Ok(Some(Self {
            object: object.clone(),
            events,
            weight,
            delete,
        }))
    }
}

/// Parses the deletion policy. Helm's default is `before-hook-creation`.
fn delete_policy(text: Option<&String>) -> Result<DeletePolicy, String> {
    let mut policy = DeletePolicy {
        before_creation: text.is_none(),
        on_success: false,
        on_failure: false,
    };
    for name in text.into_iter().flat_map(|text| text.split(',')) {
        match name.trim() {
            "before-hook-creation" => policy.before_creation = true,
            "hook-succeeded" => policy.on_success = true,
            "hook-failed" => policy.on_failure = true,
            other => return Err(other.to_owned()),
        }
    }
    Ok(policy)
}

fn redact(data: Option<&mut Value>) {
    for value in data
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(|entries| entries.values_mut())
    {
        *value = Value::String("<redacted>".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(annotations: &Value) -> Value {
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "init", "annotations": annotations}})
    }

    #[test]
    fn annotations_tell_hooks_from_resources() {
        let hook = job(&json!({
            "helm.sh/hook": "post-install, post-upgrade", "helm.sh/hook-weight": "5",
            "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
        }));
        let bundle = Bundle::from_values([hook, job(&json!({}))]).unwrap();
        assert_eq!(bundle.resources.len(), 1);
        let hook = &bundle.hooks[0];
        assert_eq!(hook.events, [HookEvent::PostInstall, HookEvent::PostUpgrade]);
        assert_eq!(hook.weight, 5);
        assert_eq!(
            hook.delete,
            DeletePolicy {
                before_creation: true,
                on_success: true,
                on_failure: false
            }
        );
    }

    #[test]
    fn an_object_outside_of_the_namespace_is_refused_by_name() {
        let stays = |object: Value| Bundle::from_values([object]).unwrap().stays_in("a");
        let mut config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
        stays(config.clone()).unwrap();
        config["metadata"]["namespace"] = json!("a");
        stays(config.clone()).unwrap();
        config["metadata"]["namespace"] = json!("kube-system");
        let error = stays(config).unwrap_err().to_string();
        assert!(
            error.contains("ConfigMap c is in namespace kube-system"),
            "{error}"
        );
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}});
        assert!(
            stays(role)
                .unwrap_err()
                .to_string()
                .contains("at the cluster's scope")
        );
    }

    #[test]
    fn without_a_policy_an_earlier_hook_goes_before_a_new_one() {
        let bundle = Bundle::from_values([job(&json!({"helm.sh/hook": "test"}))]).unwrap();
        assert_eq!(
            bundle.hooks[0].delete,
            DeletePolicy {
                before_creation: true,
                on_success: false,
                on_failure: false
            }
        );
    }

    #[test]
    fn what_helm_would_not_understand_is_refused_by_name() {
        for (annotations, expected) in [
            (
                json!({"helm.sh/hook": "after-lunch"}),
                "Job/init has an unknown hook event \"after-lunch\"",
            ),
            (
                json!({"helm.sh/hook": "test", "helm.sh/hook-weight": "heavy"}),
                "\"heavy\" that is not a number",
            ),
            (
                json!({"helm.sh/hook": "test", "helm.sh/hook-delete-policy": "x"}),
                "delete policy \"x\"",
            ),
        ] {
            let error = Bundle::from_values([job(&annotations)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn yaml_for_evidence_has_no_secret_in_it() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
                            "data": {"valkey-password": "aHVudGVyMg=="}});
        let yaml = Bundle::from_values([secret]).unwrap().to_yaml();
        assert!(!yaml.contains("aHVudGVyMg"), "{yaml}");
        assert!(yaml.contains("valkey-password: <redacted>"), "{yaml}");
    }
}
