//! The EndpointSlices of a Service: one per distinct set of ports of its pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::members::{Member, MemberPort};
use crate::controllers::owners::controller_reference;

/// The label and value that mark the slices managed by this controller.
pub(crate) const MANAGED_BY: (&str, &str) = (
    "endpointslice.kubernetes.io/managed-by",
    "endpointslice-controller.k8s.io",
);
/// The label that ties a slice to its Service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that marks objects of a headless Service.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// Builds the slices that the Service should have: at least one, and another for pods that lack a
/// named port. Names are derived from the ports, so that a set of ports keeps its slice. One slice
/// takes any number of endpoints. Real slices are split at 100, more than one machine runs.
pub(crate) fn slices(service: &Service, members: &[Member]) -> Vec<EndpointSlice> {
    let mut groups: BTreeMap<&[MemberPort], Vec<&Member>> = BTreeMap::new();
    for member in members {
        groups.entry(&member.ports).or_default().push(member);
    }
    if groups.is_empty() {
        groups.insert(&[], Vec::new());
    }
    groups
        .into_iter()
        .map(|(ports, members)| slice(service, ports, &members))
        .collect()
}

fn slice(service: &Service, ports: &[MemberPort], members: &[&Member]) -> EndpointSlice {
    let name = service.name_any();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", suffix(ports))),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: Some(members.iter().map(|member| endpoint(member)).collect()),
        ports: Some(ports.iter().map(port).collect()),
    }
}

fn endpoint(member: &Member) -> Endpoint {
    Endpoint {
        addresses: vec![member.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(member.ready),
            serving: Some(member.serving),
            terminating: Some(member.terminating),
        }),
        hostname: member.hostname.clone(),
        node_name: member.node.clone(),
        target_ref: Some(member.pod.clone()),
        ..Endpoint::default()
    }
}

fn port(port: &MemberPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

/// Returns five characters that stand for the ports.
fn suffix(ports: &[MemberPort]) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = format!("{ports:?}");
    let mut hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let mut suffix = String::new();
    for _ in 0..5 {
        suffix.push(char::from(ALPHABET[(hash % 27) as usize]));
        hash /= 27;
    }
    suffix
}

#[cfg(test)]
mod tests {
    use super::super::members::members;
    use super::super::members::tests::{pod, service};
    use super::*;

    #[test]
    fn a_pod_without_the_named_port_goes_to_a_slice_without_ports() {
        let with = pod("valkey-0", "True", "");
        let mut without = pod("init-x", "True", "");
        without.spec.as_mut().expect("spec").containers[0].ports = None;
        let service = service("");
        let slices = slices(
            &service,
            &members(&service, [&with, &without].into_iter()).expect("a selector"),
        );
        let shape: Vec<_> = slices
            .iter()
            .map(|slice| {
                let names = slice
                    .endpoints
                    .iter()
                    .flatten()
                    .filter_map(|e| e.target_ref.as_ref()?.name.clone());
                (slice.ports.iter().flatten().count(), names.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(
            shape,
            [(0, vec!["init-x".to_owned()]), (1, vec!["valkey-0".to_owned()])]
        );
        assert_ne!(slices[0].metadata.name, slices[1].metadata.name);
    }

    #[test]
    fn a_service_without_pods_has_one_empty_slice_that_it_owns() {
        let slices = slices(&service("clusterIP: None,"), &[]);
        assert_eq!(slices.len(), 1);
        let meta = &slices[0].metadata;
        assert_eq!(meta.owner_references.as_ref().expect("owner")[0].uid, "u");
        let labels = meta.labels.as_ref().expect("labels");
        assert!(labels.contains_key(HEADLESS) && labels[SERVICE_NAME] == "valkey");
    }
}
