//! The identity of an ordinal: its pod's name, the pod itself, and its claims.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::controllers::owners::controller_reference;

/// The label with the ControllerRevision from which a pod was made.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";
const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// Returns the ordinals for which the set should have pods. Start and number are each an `i32`;
/// their sum may exceed that type.
pub(crate) fn ordinals(set: &StatefulSet) -> std::ops::Range<i64> {
    let start = set
        .spec
        .ordinals
        .as_ref()
        .and_then(|ordinals| ordinals.start)
        .unwrap_or(0);
    let start = i64::from(start);
    start..start + i64::from(set.spec.replicas.unwrap_or(1))
}

/// Returns the ordinal in a pod's name if the name is one of the set's.
pub(crate) fn ordinal_of(set: &StatefulSet, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(&set.name_any())?.strip_prefix('-')?;
    let ordinal = digits.parse::<i64>().ok()?;
    (ordinal >= 0 && ordinal.to_string() == digits).then_some(ordinal)
}

/// Returns the revision label of a pod.
pub(crate) fn revision_of(pod: &Pod) -> Option<&str> {
    pod.labels().get(REVISION_LABEL).map(String::as_str)
}

/// Builds the pod of an ordinal.
pub(crate) fn pod(set: &StatefulSet, ordinal: i64, template: PodTemplateSpec, revision: &str) -> Pod {
    let name = format!("{}-{ordinal}", set.name_any());
    let meta = template.metadata.unwrap_or_default();
    let mut labels = meta.labels.unwrap_or_default();
    labels.insert(POD_NAME_LABEL.to_owned(), name.clone());
    labels.insert(POD_INDEX_LABEL.to_owned(), ordinal.to_string());
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    let mut spec = template.spec.unwrap_or_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set.spec.service_name.clone();
    let mut volumes = spec.volumes.take().unwrap_or_default();
    for claim in claims(set, ordinal) {
        volumes.retain(|volume| volume.name != claim.template);
        volumes.push(Volume {
            name: claim.template,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.object.name_any(),
                read_only: Some(false),
            }),
            ..Volume::default()
        });
    }
    spec.volumes = Some(volumes);
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: set.namespace(),
            labels: Some(labels),
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// A claim of one ordinal, and the template from which it is made.
pub(crate) struct Claim {
    pub(crate) template: String,
    pub(crate) object: PersistentVolumeClaim,
}

/// Returns the claims of an ordinal: `<template>-<set>-<ordinal>`, labelled with the set's
/// selector.
pub(crate) fn claims(set: &StatefulSet, ordinal: i64) -> Vec<Claim> {
    let selector = set.spec.selector.match_labels.clone().unwrap_or_default();
    let templates = set.spec.volume_claim_templates.iter().flatten();
    templates
        .map(|template| {
            let name = template.name_any();
            let mut labels = template.metadata.labels.clone().unwrap_or_default();
            labels.extend(selector.clone());
            let metadata = ObjectMeta {
                name: Some(format!("{name}-{}-{ordinal}", set.name_any())),
                namespace: set.namespace(),
                labels: Some(labels),
                annotations: template.metadata.annotations.clone(),
                finalizers: template.metadata.finalizers.clone(),
                ..ObjectMeta::default()
            };
            let object = PersistentVolumeClaim {
                metadata,
                spec: template.spec.clone(),
                ..Default::default()
            };
            Claim {
                template: name,
                object,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> StatefulSet {
        serde_yaml::from_str(
            "{metadata: {name: valkey, namespace: shop, uid: u1}, spec: {replicas: 2, serviceName: valkey-headless, \
             ordinals: {start: 3}, selector: {matchLabels: {app: valkey}}, \
             template: {metadata: {labels: {app: valkey, extra: x}}, spec: {containers: [], volumes: [{name: data, emptyDir: {}}, {name: tmp, emptyDir: {}}]}}, \
             volumeClaimTemplates: [{metadata: {name: data, labels: {team: a}}, spec: {accessModes: [ReadWriteOnce]}}]}}",
        )
        .expect("a StatefulSet")
    }

    #[test]
    fn a_pod_carries_its_identity_and_its_claims() {
        let set = set();
        let template = set.spec.template.clone();
        let pod = pod(&set, 3, template, "valkey-abc");
        let spec = pod.spec.as_ref().expect("spec");
        assert_eq!(
            (pod.name_any().as_str(), spec.hostname.as_deref()),
            ("valkey-3", Some("valkey-3"))
        );
        assert_eq!(spec.subdomain.as_deref(), Some("valkey-headless"));
        let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
        assert_eq!(label("statefulset.kubernetes.io/pod-name"), "valkey-3");
        assert_eq!(label("apps.kubernetes.io/pod-index"), "3");
        assert_eq!(label("extra"), "x");
        let volumes = spec.volumes.as_ref().expect("volumes");
        assert_eq!(
            volumes.len(),
            2,
            "the claim takes the place of the template's volume of that name"
        );
        let claim = volumes
            .iter()
            .find_map(|volume| volume.persistent_volume_claim.as_ref());
        assert_eq!(
            claim.map(|claim| claim.claim_name.as_str()),
            Some("data-valkey-3")
        );
    }

    #[test]
    fn claims_carry_the_selector_beside_their_own_labels() {
        let claim = &claims(&set(), 4)[0].object;
        assert_eq!(claim.name_any(), "data-valkey-4");
        assert_eq!(claim.labels().get("app").map(String::as_str), Some("valkey"));
        assert_eq!(claim.labels().get("team").map(String::as_str), Some("a"));
    }

    #[test]
    fn ordinals_start_where_the_set_says_and_names_are_exact() {
        assert_eq!(ordinals(&set()), 3..5);
        assert_eq!(ordinal_of(&set(), "valkey-12"), Some(12));
        let mut last = set();
        last.spec.ordinals.get_or_insert_default().start = Some(i32::MAX);
        assert_eq!(ordinals(&last), i64::from(i32::MAX)..i64::from(i32::MAX) + 2);
        for foreign in ["valkey-012", "valkey-x-1", "other-1", "valkey-", "valkey--1"] {
            assert_eq!(ordinal_of(&set(), foreign), None, "{foreign}");
        }
    }
}
