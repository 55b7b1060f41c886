//! The StatefulSet: the servers' pods, their volumes, and the update strategy.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PodSpec, PodTemplateSpec, Volume, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::{RenderContext, config_map, non_empty, peers, server, tools};
use crate::release::SERVER_COMPONENT;
use crate::values::{Mode, Values, Variant};

/// Renders the StatefulSet, with the checksum of `config_map`.
pub(super) fn stateful_set(context: &RenderContext<'_>, config_map: &ConfigMap) -> StatefulSet {
    let values = context.values;
    let mut metadata = context.metadata(&context.fullname);
    metadata.annotations = non_empty(&values.statefulset.annotations);
    let labels = context.release.component_labels(values, SERVER_COMPONENT);
    let replicas = i32::try_from(values.replicas()).expect("validated to be at most 1000");
    let spec = StatefulSetSpec {
        service_name: Some(context.release.headless_name(values)),
        replicas: Some(replicas),
        pod_management_policy: Some(pod_management_policy(values)),
        update_strategy: Some(values.statefulset.update_strategy.clone()),
        selector: LabelSelector {
            match_labels: Some(labels),
            match_expressions: None,
        },
        template: template(context, config_map),
        volume_claim_templates: values.persistence.enabled.then(|| vec![claim(values)]),
        ..StatefulSetSpec::default()
    };
    StatefulSet {
        metadata,
        spec,
        status: None,
    }
}

fn pod_management_policy(values: &Values) -> String {
    let policy = match (values.statefulset.pod_management_policy.as_str(), values.mode) {
        ("", Mode::Cluster) => "Parallel",
        ("", Mode::Standalone) => "OrderedReady",
        (given, _) => given,
    };
    policy.to_owned()
}

fn template(context: &RenderContext<'_>, config_map: &ConfigMap) -> PodTemplateSpec {
    let values = context.values;
    let mut labels = context.release.component_labels(values, SERVER_COMPONENT);
    labels.extend(values.pod_labels.clone());
    labels.extend(values.statefulset.labels.clone());
    let mut annotations = BTreeMap::from([("checksum/config".to_owned(), config_map::checksum(config_map))]);
    annotations.extend(values.pod_annotations.clone());
    let metadata = ObjectMeta {
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    PodTemplateSpec {
        metadata: Some(metadata),
        spec: Some(pod(context)),
    }
}

fn pod(context: &RenderContext<'_>) -> PodSpec {
    let values = context.values;
    let mut containers = vec![server::container(context)];
    containers.extend(peers::container(context));
    let affinity = &values.affinity;
    PodSpec {
        service_account_name: Some(context.release.service_account_name(values)),
        image_pull_secrets: tools::pull_secrets(values),
        security_context: Some(values.security_context.clone()),
        containers,
        volumes: Some(volumes(context)),
        node_selector: non_empty(&values.node_selector),
        tolerations: Some(values.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        affinity: (*affinity != k8s_openapi::api::core::v1::Affinity::default()).then(|| affinity.clone()),
        ..PodSpec::default()
    }
}

fn volumes(context: &RenderContext<'_>) -> Vec<Volume> {
    let values = context.values;
    let memory = || EmptyDirVolumeSource {
        medium: Some("Memory".to_owned()),
        ..EmptyDirVolumeSource::default()
    };
    let empty_dir = |name: &str, source: EmptyDirVolumeSource| Volume {
        name: name.to_owned(),
        empty_dir: Some(source),
        ..Volume::default()
    };
    let config = ConfigMapVolumeSource {
        name: context.fullname.clone(),
        ..ConfigMapVolumeSource::default()
    };
    let mut volumes = vec![Volume {
        name: "config".to_owned(),
        config_map: Some(config),
        ..Volume::default()
    }];
    if values.image.variant == Variant::Hardened {
        volumes.extend([empty_dir("tmp", memory()), empty_dir("run", memory())]);
    }
    if !values.persistence.enabled {
        volumes.push(empty_dir("data", EmptyDirVolumeSource::default()));
    }
    volumes.extend(peers::volume(context));
    volumes
}

fn claim(values: &Values) -> PersistentVolumeClaim {
    let persistence = &values.persistence;
    let requests = BTreeMap::from([("storage".to_owned(), Quantity(persistence.size.clone()))]);
    let class = &persistence.storage_class;
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            annotations: non_empty(&persistence.annotations),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(persistence.access_modes.clone()),
            storage_class_name: (!class.is_empty()).then(|| class.clone()),
            resources: Some(VolumeResourceRequirements {
                requests: Some(requests),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
