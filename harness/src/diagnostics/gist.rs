//! The part of the evidence that the triage reads. It is small enough to send, and to be a test
//! case of the triage (`harness/tests/triage.rs`).

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, Pod, PodSpec, PodTemplateSpec, Service};

use super::evidence::Evidence;
use crate::timeline::EntryKind;

/// The file's name within the folder of a trial's evidence.
pub const GIST_FILE: &str = "triage.json";

/// Number of lines kept of a log's end. A server's last words are among them.
const LOG_LINES: usize = 8;

/// Returns the part of `evidence` that the triage reads.
pub(super) fn gist(evidence: &Evidence) -> Evidence {
    let mut gist = Evidence {
        slices: Vec::new(),
        nodes_conf: Default::default(),
        manifests: String::new(),
        ..evidence.clone()
    };
    gist.pods.iter_mut().for_each(prune_pod);
    gist.jobs.iter_mut().for_each(prune_job);
    gist.claims.iter_mut().for_each(prune_claim);
    gist.services.iter_mut().for_each(prune_service);
    gist.events
        .retain(|event| event.type_.as_deref() == Some("Warning"));
    for event in &mut gist.events {
        event.metadata = Default::default();
    }
    for log in gist.logs.values_mut() {
        *log = end_of(log);
    }
    // The addresses of pods: nodes know each other by address only.
    gist.timeline
        .retain(|entry| entry.kind == EntryKind::Pod && entry.text.contains("address"));
    gist
}

fn prune_pod(pod: &mut Pod) {
    let metadata = &mut pod.metadata;
    metadata.managed_fields = None;
    metadata.annotations = None;
    if let Some(spec) = &mut pod.spec {
        *spec = pruned(spec);
    }
}

fn prune_job(job: &mut Job) {
    job.metadata.managed_fields = None;
    job.metadata.annotations = None;
    if let Some(spec) = &mut job.spec {
        let metadata = spec.template.metadata.take();
        spec.template = PodTemplateSpec { metadata, spec: None };
    }
}

fn prune_claim(claim: &mut PersistentVolumeClaim) {
    claim.metadata.managed_fields = None;
    claim.metadata.annotations = None;
}

fn prune_service(service: &mut Service) {
    service.metadata.managed_fields = None;
    service.metadata.annotations = None;
}

/// Keeps the containers with their images, ports and mounts, and the volumes that may hold data.
fn pruned(spec: &PodSpec) -> PodSpec {
    let container = |container: &Container| Container {
        name: container.name.clone(),
        image: container.image.clone(),
        ports: container.ports.clone(),
        volume_mounts: container.volume_mounts.clone(),
        ..Container::default()
    };
    let volumes = spec.volumes.iter().flatten();
    let for_data =
        volumes.filter(|volume| volume.persistent_volume_claim.is_some() || volume.empty_dir.is_some());
    PodSpec {
        volumes: Some(for_data.cloned().collect()),
        node_name: spec.node_name.clone(),
        subdomain: spec.subdomain.clone(),
        containers: spec.containers.iter().map(container).collect(),
        ..PodSpec::default()
    }
}

fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
