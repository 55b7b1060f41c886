//! The PersistentVolume made for a claim: a directory on the node.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{
    LocalVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
    PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::PROVISIONER;

/// The annotation with the provisioner of a volume. Only volumes of this provisioner are deleted.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// Returns the name of the volume made for a claim.
pub(crate) fn name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid().unwrap_or_default())
}

/// Builds the volume for a claim.
pub(crate) fn volume(
    claim: &PersistentVolumeClaim,
    volumes_dir: &Path,
    node: &str,
    reclaim: Option<String>,
) -> PersistentVolume {
    let name = name(claim);
    let spec = claim.spec.clone().unwrap_or_default();
    let capacity: BTreeMap<_, _> = spec
        .resources
        .and_then(|resources| resources.requests)
        .unwrap_or_default();
    PersistentVolume {
        metadata: ObjectMeta {
            annotations: Some([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())].into()),
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: Some(capacity),
            claim_ref: Some(claim.object_ref(&())),
            local: Some(LocalVolumeSource {
                path: volumes_dir.join(&name).display().to_string(),
                fs_type: None,
            }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(on_node(node)),
            }),
            persistent_volume_reclaim_policy: Some(reclaim.unwrap_or_else(|| "Delete".to_owned())),
            storage_class_name: spec.storage_class_name,
            volume_mode: Some(spec.volume_mode.unwrap_or_else(|| "Filesystem".to_owned())),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

fn on_node(node: &str) -> NodeSelector {
    NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_expressions: Some(vec![NodeSelectorRequirement {
                key: "kubernetes.io/hostname".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
            match_fields: None,
        }],
    }
}
