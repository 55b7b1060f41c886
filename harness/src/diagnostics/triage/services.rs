//! Causes in Services: unpublished names, ports that lead nowhere, pods that are not servers.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodSpec, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use serde::Deserialize;
use serde_yaml::Value;

use super::super::cause::Cause;
use super::super::evidence::Evidence;
use crate::checks::client;
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
    // Another headless Service, such as that of an exporter, gives no pod its name.
    let servers = evidence.pods.iter().filter(|pod| is_server(pod));
    let named: BTreeSet<&String> = servers
        .filter_map(|pod| pod.spec.as_ref()?.subdomain.as_ref())
        .collect();
    let gives_names = |service: &Service| named.is_empty() || named.contains(&service.name_any());
    let headless = evidence.services.iter().find(|service| {
        let spec = service.spec.as_ref().filter(|_| gives_names(service));
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
    evidence.services.iter().find_map(|service| {
        let pods: Vec<&Pod> = evidence.pods.iter().filter(|pod| is_server(pod)).collect();
        let ports = service.spec.as_ref()?.ports.as_ref()?;
        ports.iter().find_map(|port| {
            let Some(IntOrString::String(target)) = &port.target_port else {
                return None;
            };
            let first = pods.first()?;
            let known: Vec<&str> = declared_ports(first.spec.as_ref()?)
                .filter_map(|port| port.name.as_deref())
                .collect();
            (!known.contains(&target.as_str())).then(|| Cause::ServicePortDoesNotExist {
                service: service.name_any(),
                port: target.clone(),
                pod: first.name_any(),
                known: known.iter().map(|&name| name.to_owned()).collect(),
            })
        })
    })
}

/// Recognises a Service that clients saw closed, if the number of its target port is none that a
/// server's containers declare. A container may leave its ports undeclared, so this proves nothing
/// by itself.
pub(super) fn service_port_is_closed(evidence: &Evidence) -> Option<Cause> {
    let running = evidence.pods.iter().find(|pod| is_server(pod));
    let declared: Vec<i32> = match running.and_then(|pod| pod.spec.as_ref()) {
        Some(spec) => declared_ports(spec).map(|port| port.container_port).collect(),
        // The pods may be gone already.
        None => deployed_ports(&evidence.manifests),
    };
    let is_closed = |service: &&Service| {
        let subject = format!("Service {}", service.name_any());
        let mut broken = evidence.violations.iter();
        broken.any(|violation| violation.check == client::NAME && violation.subject == subject)
    };
    let mut services = evidence.services.iter().filter(is_closed);
    services.find_map(|service| {
        let ports = service.spec.as_ref()?.ports.as_ref()?;
        let mut targets = ports.iter().filter_map(|port| match port.target_port {
            Some(IntOrString::Int(target)) => Some(target),
            _ => None,
        });
        let port = targets.find(|target| !declared.contains(target))?;
        (!declared.is_empty()).then(|| Cause::ServicePortIsClosed {
            service: service.name_any(),
            port,
            declared: declared.clone(),
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

fn declared_ports(pod: &PodSpec) -> impl Iterator<Item = &ContainerPort> {
    let containers = pod.containers.iter();
    containers.flat_map(|container| container.ports.iter().flatten())
}

/// Returns the container ports of the StatefulSets among the deployed objects. A redacted password
/// may stand where a field wants a text, so the objects are read as plain YAML.
fn deployed_ports(manifests: &str) -> Vec<i32> {
    let objects = serde_yaml::Deserializer::from_str(manifests);
    let objects = objects.filter_map(|object| Value::deserialize(object).ok());
    let ports = objects
        .filter(|object| object["kind"] == "StatefulSet")
        .flat_map(|set| items(&set["spec"]["template"]["spec"]["containers"]))
        .flat_map(|container| items(&container["ports"]))
        .filter_map(|port| port["containerPort"].as_i64());
    ports.filter_map(|port| i32::try_from(port).ok()).collect()
}

fn items(list: &Value) -> Vec<Value> {
    list.as_sequence().cloned().unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::checks::Violation;

    fn parsed<T: DeserializeOwned>(yaml: &str) -> T {
        serde_yaml::from_str(yaml).expect("the test's own YAML is an object")
    }

    /// Returns the evidence of a Service with this target port, which clients saw closed.
    fn closed(target: &str, container_ports: &str) -> Evidence {
        let template = format!(
            "{{spec: {{containers: [{{name: valkey, command: [[redacted]], ports: {container_ports}}}]}}}}"
        );
        let set = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: vk}";
        let ports = format!("[{{name: valkey, port: 6379, targetPort: {target}}}]");
        let service = format!("metadata: {{name: vk}}\nspec: {{ports: {ports}}}");
        Evidence {
            manifests: format!(
                "apiVersion: v1\nkind: Service\n{service}\n---\n{set}\nspec: {{selector: {{}}, template: {template}}}\n"
            ),
            services: vec![parsed(&service)],
            violations: vec![Violation::new(
                client::NAME,
                "Service vk",
                "PONG",
                "no connection",
            )],
            ..Evidence::default()
        }
    }

    #[test]
    fn a_closed_port_that_no_container_declares_is_named() {
        let declared = "[{containerPort: 6379}, {containerPort: 16379}]";
        let mut evidence = closed("6380", declared);
        assert_eq!(
            service_port_is_closed(&evidence).unwrap().to_string(),
            "Service vk sends clients to port 6380, where no server answers (their containers declare 6379, 16379)"
        );
        for harmless in [
            closed("6379", declared),
            closed("valkey", declared),
            closed("6380", "[]"),
        ] {
            assert_eq!(service_port_is_closed(&harmless), None);
        }
        evidence.violations.clear();
        assert_eq!(service_port_is_closed(&evidence), None, "clients are served");
    }
}
