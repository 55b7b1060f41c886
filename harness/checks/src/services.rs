//! The Services lead to exactly the server pods, on the promised ports. The headless Service does
//! so before the pods are Ready.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::{Deserialize, Serialize};

use super::Violation;
use valkey::observation::{Mode, PodFacts};

/// The check's name.
pub const NAME: &str = "services";

/// A Service with its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFacts {
    /// Its name.
    pub name: String,
    /// True if it has no cluster IP.
    pub headless: bool,
    /// `publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// Its ports by name.
    pub ports: BTreeMap<String, i32>,
    /// The endpoints in its EndpointSlices.
    pub endpoints: Vec<EndpointFacts>,
}

/// One endpoint of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointFacts {
    /// Its address.
    pub address: String,
    /// The pod it stands for.
    pub pod: Option<String>,
    /// True if traffic is sent there.
    pub ready: bool,
    /// True if the pod is being deleted.
    pub terminating: bool,
    /// The ports its slice gives it, by name.
    pub ports: BTreeMap<String, i32>,
}

impl ServiceFacts {
    /// Reads a Service and the EndpointSlices that carry its `kubernetes.io/service-name` label.
    pub fn from_objects(service: &Service, slices: &[EndpointSlice]) -> Self {
        let name = service.metadata.name.clone().unwrap_or_default();
        let spec = service.spec.clone().unwrap_or_default();
        let endpoints = slices
            .iter()
            .filter(|slice| belongs_to(slice, &name))
            .flat_map(endpoints_of)
            .collect();
        Self {
            headless: spec.cluster_ip.as_deref() == Some("None"),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            ports: spec
                .ports
                .unwrap_or_default()
                .into_iter()
                .map(|port| (port.name.unwrap_or_default(), port.port))
                .collect(),
            endpoints,
            name,
        }
    }
}

fn belongs_to(slice: &EndpointSlice, service: &str) -> bool {
    slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("kubernetes.io/service-name"))
        .is_some_and(|name| name == service)
}

fn endpoints_of(slice: &EndpointSlice) -> Vec<EndpointFacts> {
    let ports: BTreeMap<String, i32> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|port| Some((port.name.clone().unwrap_or_default(), port.port?)))
        .collect();
    let mut found = Vec::new();
    for endpoint in slice.endpoints.iter().flatten() {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        for address in &endpoint.addresses {
            found.push(EndpointFacts {
                address: address.clone(),
                pod: endpoint
                    .target_ref
                    .as_ref()
                    .and_then(|target| target.name.clone()),
                // "A nil value should be interpreted as true": EndpointConditions in the API
                // reference.
                ready: conditions.ready.unwrap_or(true),
                terminating: conditions.terminating.unwrap_or(false),
                ports: ports.clone(),
            });
        }
    }
    found
}

/// Finds Services that are missing, lead to strangers, omit a server, or are too late for
/// formation. Allows Services without servers, such as a tool's, and Services for some servers next
/// to one for all.
pub fn check(mode: Mode, services: &[ServiceFacts], pods: &[PodFacts]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (kind, headless) in [("a client Service", false), ("a headless Service", true)] {
        let of_kind = || services.iter().filter(|service| service.headless == headless);
        let mut meant: Vec<&ServiceFacts> = of_kind().filter(|service| leads_to_any(service, pods)).collect();
        if meant.is_empty() {
            meant.extend(of_kind());
        }
        if meant.is_empty() {
            violations.push(Violation::new(NAME, "the release", kind, "none"));
        }
        if headless && mode == Mode::Cluster {
            violations.extend(formation(&meant));
        }
        let left_out = meant
            .iter()
            .map(|service| missing(&subject(service), service, pods));
        violations.extend(left_out.min_by_key(Vec::len).unwrap_or_default());
        for service in meant {
            violations.extend(strangers(&subject(service), service, pods));
            violations.extend(ports(&subject(service), service));
        }
    }
    violations
}

fn subject(service: &ServiceFacts) -> String {
    format!("Service {}", service.name)
}

fn leads_to_any(service: &ServiceFacts, pods: &[PodFacts]) -> bool {
    let mut leads_to = service
        .endpoints
        .iter()
        .filter_map(|endpoint| endpoint.pod.as_ref());
    leads_to.any(|name| pods.iter().any(|pod| pod.name == *name))
}

/// Checks that a cluster has a headless Service that allows the cluster to form.
fn formation(headless: &[&ServiceFacts]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let Some(first) = headless.first() else {
        return violations;
    };
    if !headless.iter().any(|service| service.publish_not_ready) {
        violations.push(
            Violation::new(NAME, subject(first), "publishNotReadyAddresses: true", "false").with_evidence(
                "nodes must resolve each other before they are Ready, or the cluster can never be formed",
            ),
        );
    }
    // The chart does not promise a name for the port.
    if headless.iter().all(|service| service.ports.len() < 2) {
        let seen: Vec<&str> = first.ports.keys().map(String::as_str).collect();
        violations.push(Violation::new(
            NAME,
            subject(first),
            "a port for clients and one for the cluster bus",
            seen.join(", "),
        ));
    }
    violations
}

fn strangers(subject: &str, service: &ServiceFacts, pods: &[PodFacts]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for endpoint in &service.endpoints {
        let pod = pods.iter().find(|pod| Some(&pod.name) == endpoint.pod.as_ref());
        match pod {
            None => {
                let who = endpoint.pod.as_deref().unwrap_or("no pod");
                let seen = format!("{who} at {}", endpoint.address);
                violations.push(
                    Violation::new(NAME, subject, "only server pods as endpoints", seen)
                        .with_evidence("its labels match the Service's selector"),
                );
            }
            Some(pod) if pod.ip.is_some() && pod.ip.as_deref() != Some(&endpoint.address) => {
                let expected = format!(
                    "{} at its current address {}",
                    pod.name,
                    pod.ip.as_deref().unwrap_or_default()
                );
                violations.push(Violation::new(NAME, subject, expected, &endpoint.address));
            }
            Some(_) => {}
        }
    }
    violations
}

fn missing(subject: &str, service: &ServiceFacts, pods: &[PodFacts]) -> Vec<Violation> {
    let listed: BTreeSet<&str> = service
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.ready || endpoint.terminating)
        .filter_map(|endpoint| endpoint.pod.as_deref())
        .collect();
    pods.iter()
        .filter(|pod| !pod.terminating && pod.ip.is_some() && (pod.ready || service.publish_not_ready))
        .filter(|pod| !listed.contains(pod.name.as_str()))
        .map(|pod| {
            Violation::new(
                NAME,
                subject,
                format!("{} among its ready endpoints", pod.name),
                "it is not",
            )
        })
        .collect()
}

/// Finds endpoints without one of the ports. Pods without the named `targetPort` go to a separate
/// slice without the port. Ports of auxiliary tools are not judged.
fn ports(subject: &str, service: &ServiceFacts) -> Vec<Violation> {
    let without = |name: &str| -> BTreeSet<&str> {
        let lacking = service
            .endpoints
            .iter()
            .filter(|endpoint| !endpoint.ports.contains_key(name));
        lacking
            .map(|endpoint| endpoint.pod.as_deref().unwrap_or(&endpoint.address))
            .collect()
    };
    let known: Vec<&str> = ["valkey", "cluster-bus"]
        .into_iter()
        .filter(|name| service.ports.contains_key(*name))
        .collect();
    // Without the usual names, at least one port has to lead to every server.
    let judged = if known.is_empty() {
        let fewest = service
            .ports
            .keys()
            .map(String::as_str)
            .min_by_key(|name| without(name).len());
        fewest.into_iter().collect()
    } else {
        known
    };
    let mut violations = Vec::new();
    for name in judged {
        let without = without(name);
        if !without.is_empty() {
            let seen = format!("none for {}", without.into_iter().collect::<Vec<_>>().join(", "));
            violations.push(
                Violation::new(NAME, subject, format!("port {name} on every endpoint"), seen).with_evidence(
                    "the Service's targetPort names a container port that the pod does not have",
                ),
            );
        }
    }
    violations
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
