//! Causes in Services: unpublished names, ports that lead nowhere, pods that are not servers.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;

use super::super::cause::Cause;
use super::super::evidence::Evidence;
use crate::trial::observer::is_server;
use crate::valkey::ClusterObservation;
use crate::wait::conditions::is_ready;

/// Recognises a headless Service that hides pods until they are ready, which deadlocks a cluster.
/// No pod is ready before the cluster is formed, and forming it needs the names.
pub(super) fn names_are_not_published(evidence: &Evidence) -> Option<Cause> {
    let forms_a_cluster = evidence
        .jobs
        .iter()
        .any(|job| job.name_any().contains("cluster-init"));
    let headless = evidence.services.iter().find(|service| {
        let spec = service.spec.as_ref();
        spec.is_some_and(|spec| {
            spec.cluster_ip.as_deref() == Some("None") && spec.publish_not_ready_addresses != Some(true)
        })
    })?;
    let unformed = evidence
        .observation
        .as_ref()
        .is_some_and(ClusterObservation::is_unformed);
    forms_a_cluster.then(|| Cause::NamesAreNotPublished {
        service: headless.name_any(),
        unformed,
    })
}

pub(super) fn service_port_does_not_exist(evidence: &Evidence) -> Option<Cause> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    evidence.services.iter().find_map(|service| {
        let pods: Vec<&Pod> = evidence.pods.iter().filter(|pod| is_server(pod)).collect();
        let ports = service.spec.as_ref()?.ports.as_ref()?;
        ports.iter().find_map(|port| {
            let Some(IntOrString::String(target)) = &port.target_port else {
                return None;
            };
            let first = pods.first()?;
            let known: Vec<&str> = container_ports(first).collect();
            (!known.contains(&target.as_str())).then(|| Cause::ServicePortDoesNotExist {
                service: service.name_any(),
                port: target.clone(),
                pod: first.name_any(),
                known: known.iter().map(|&name| name.to_owned()).collect(),
            })
        })
    })
}

pub(super) fn service_selects_no_server(evidence: &Evidence) -> Option<Cause> {
    let servers: Vec<&Pod> = evidence.pods.iter().filter(|pod| is_server(pod)).collect();
    let first = servers.first()?;
    evidence.services.iter().find_map(|service| {
        let selector = service.spec.as_ref()?.selector.as_ref()?;
        let (key, value) = selector
            .iter()
            .find(|(key, value)| first.labels().get(*key) != Some(*value))?;
        let none = !servers.iter().any(|pod| selects(service, pod));
        none.then(|| Cause::ServiceSelectsNoServer {
            service: service.name_any(),
            label: format!("{key}={value}"),
        })
    })
}

pub(super) fn job_pods_in_service(evidence: &Evidence) -> Option<Cause> {
    let found: Vec<(String, String)> = evidence
        .services
        .iter()
        .filter_map(|service| Some((service.name_any(), other_pod(evidence, service)?)))
        .collect();
    let pod = found.first()?.1.clone();
    let ready = evidence
        .pods
        .iter()
        .any(|other| other.name_any() == pod && is_ready(other));
    let services = found.into_iter().map(|(service, _)| service).collect();
    Some(Cause::JobPodsInService { services, pod, ready })
}

/// Returns a pod that the Service selects although it is no server. A hook's pod and its Job are
/// often deleted already; the deployed objects still show their labels.
fn other_pod(evidence: &Evidence, service: &Service) -> Option<String> {
    let mut others = evidence.pods.iter().filter(|pod| !is_server(pod));
    if let Some(pod) = others.find(|pod| selects(service, pod)) {
        return Some(pod.name_any());
    }
    evidence.hook_pods.iter().find_map(|(name, labels)| {
        let mut pod = Pod::default();
        pod.metadata.labels = Some(labels.clone());
        selects(service, &pod).then(|| name.clone())
    })
}

fn container_ports(pod: &Pod) -> impl Iterator<Item = &str> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| port.name.as_deref())
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
        return false;
    };
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| pod.labels().get(key) == Some(value))
}
