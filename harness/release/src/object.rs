//! One Kubernetes object of any kind, from a manifest, with its API.

use std::collections::BTreeMap;

use kube::core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use serde_json::Value;

use super::error::ReleaseError;

const RESOURCE_POLICY_ANNOTATION: &str = "helm.sh/resource-policy";

/// Kinds without a namespace that charts of this sort render.
const CLUSTER_SCOPED: [&str; 7] = [
    "Namespace",
    "PersistentVolume",
    "StorageClass",
    "PriorityClass",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
];

/// One Kubernetes object of any kind, with its API.
#[derive(Debug, Clone)]
pub struct Object {
    /// The object.
    pub content: DynamicObject,
    resource: ApiResource,
    namespaced: bool,
}

impl Object {
    /// Parses a manifest; it must have `apiVersion`, `kind` and `metadata.name`.
    pub fn from_value(manifest: Value) -> Result<Self, ReleaseError> {
        let malformed = |source| ReleaseError::Manifest {
            what: "is not a Kubernetes object".to_owned(),
            source,
        };
        let content: DynamicObject =
            serde_json::from_value(manifest).map_err(|source| malformed(Some(source)))?;
        let types = content.types.clone().ok_or_else(|| malformed(None))?;
        if content.metadata.name.is_none() {
            let what = format!("of kind {} has no name", types.kind);
            return Err(ReleaseError::Manifest { what, source: None });
        }
        let resource = ApiResource::from_gvk(&group_version_kind(&types));
        let namespaced = !CLUSTER_SCOPED.contains(&types.kind.as_str());
        Ok(Self {
            content,
            resource,
            namespaced,
        })
    }

    /// Returns the object's kind.
    pub fn kind(&self) -> &str {
        &self.resource.kind
    }

    /// Returns the object's name.
    pub fn name(&self) -> &str {
        self.content.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns the API resource of the object's kind.
    pub fn resource(&self) -> &ApiResource {
        &self.resource
    }

    /// Returns true if the object lives in a namespace.
    pub fn is_namespaced(&self) -> bool {
        self.namespaced
    }

    /// Returns true if `helm.sh/resource-policy: keep` protects the object from deletion.
    pub fn is_kept(&self) -> bool {
        annotations(&self.content)
            .get(RESOURCE_POLICY_ANNOTATION)
            .is_some_and(|policy| policy.trim() == "keep")
    }
}

/// Returns the object's annotations; empty if it has none.
pub(super) fn annotations(content: &DynamicObject) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    content.metadata.annotations.as_ref().unwrap_or(&NONE)
}

fn group_version_kind(types: &TypeMeta) -> GroupVersionKind {
    let (group, version) = types
        .api_version
        .split_once('/')
        .unwrap_or(("", &types.api_version));
    GroupVersionKind::gvk(group, version, &types.kind)
}
