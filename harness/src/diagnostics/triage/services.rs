//! Causes that Services are: names that nobody has yet, ports that lead nowhere, pods that are no servers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;

use super::super::evidence::Evidence;
use crate::trial::observer::is_server;

/// A headless Service that hides pods until they are ready deadlocks a cluster: no pod is ready before the cluster is formed,
/// and it cannot be formed without names.
pub(super) fn names_are_not_published(evidence: &Evidence) -> Option<String> {
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
    forms_a_cluster.then(|| {
        format!(
            "the headless Service {} does not publish the addresses of pods that are not ready \
             (publishNotReadyAddresses), so no pod has a name before the cluster is formed",
            headless.name_any()
        )
    })
}

pub(super) fn service_port_does_not_exist(evidence: &Evidence) -> Option<String> {
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
            (!known.contains(&target.as_str())).then(|| {
                format!(
                    "Service {} sends clients to the port {target:?}, which pod {} does not have (it has {})",
                    service.name_any(),
                    first.name_any(),
                    known.join(", ")
                )
            })
        })
    })
}

pub(super) fn service_selects_no_server(evidence: &Evidence) -> Option<String> {
    let servers: Vec<&Pod> = evidence.pods.iter().filter(|pod| is_server(pod)).collect();
    let first = servers.first()?;
    evidence.services.iter().find_map(|service| {
        let selector = service.spec.as_ref()?.selector.as_ref()?;
        let (key, value) = selector
            .iter()
            .find(|(key, value)| first.labels().get(*key) != Some(*value))?;
        let none = !servers.iter().any(|pod| selects(service, pod));
        none.then(|| {
            format!(
                "Service {} selects pods with {key}={value}, which no server has",
                service.name_any()
            )
        })
    })
}

pub(super) fn job_pods_in_service(evidence: &Evidence) -> Option<String> {
    evidence.services.iter().find_map(|service| {
        let job = evidence
            .pods
            .iter()
            .find(|pod| !is_server(pod) && selects(service, pod));
        // The pod of a hook is often gone by now, and so is its Job; what was deployed tells the same.
        let of_job = || {
            let labelled = |(name, labels): (&String, &BTreeMap<String, String>)| {
                let mut pod = Pod::default();
                pod.metadata.labels = Some(labels.clone());
                selects(service, &pod).then(|| name.clone())
            };
            evidence.hook_pods.iter().find_map(labelled)
        };
        let name = job.map(ResourceExt::name_any).or_else(of_job)?;
        Some(format!(
            "Service {} also sends clients to {name}, which is no server",
            service.name_any()
        ))
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
