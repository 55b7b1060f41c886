//! The Endpoints object of a Service: the older form of its EndpointSlices, which `kubectl get
//! endpoints` shows.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::members::{Member, MemberPort};
use super::slices::HEADLESS;
use crate::controllers::owners::controller_reference;

/// Builds the Endpoints object that the Service should have. Leaves out terminating pods unless
/// not-ready addresses are published, since this form cannot mark them as terminating.
pub(crate) fn endpoints(service: &Service, members: &[Member]) -> Endpoints {
    let spec = service.spec.as_ref();
    let publish = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let mut groups: BTreeMap<&[MemberPort], EndpointSubset> = BTreeMap::new();
    for member in members.iter().filter(|member| publish || !member.terminating) {
        let subset = groups.entry(&member.ports).or_default();
        let list = if member.ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        list.get_or_insert_default().push(address(member));
    }
    let subsets: Vec<EndpointSubset> = groups
        .into_iter()
        .map(|(ports, subset)| EndpointSubset {
            ports: (!ports.is_empty()).then(|| ports.iter().map(port).collect()),
            ..subset
        })
        .collect();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(
        "endpoints.kubernetes.io/managed-by".to_owned(),
        "endpoint-controller".to_owned(),
    );
    if spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    Endpoints {
        metadata: ObjectMeta {
            name: Some(service.name_any()),
            namespace: service.namespace(),
            labels: Some(labels),
            // The real controller deletes this object with its Service; here garbage collection
            // does.
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        subsets: (!subsets.is_empty()).then_some(subsets),
    }
}

fn address(member: &Member) -> EndpointAddress {
    EndpointAddress {
        ip: member.ip.clone(),
        hostname: member.hostname.clone(),
        node_name: member.node.clone(),
        target_ref: Some(member.pod.clone()),
    }
}

fn port(port: &MemberPort) -> EndpointPort {
    EndpointPort {
        name: port.name.clone(),
        port: port.number,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::members::members;
    use super::super::members::tests::{pod, service};
    use super::*;

    #[test]
    fn ready_and_not_ready_addresses_are_told_apart() {
        let service = service("");
        let pods = [pod("a", "True", ""), pod("b", "False", "")];
        let object = endpoints(&service, &members(&service, pods.iter()).expect("a selector"));
        let subset = &object.subsets.as_ref().expect("subsets")[0];
        let count = |list: &Option<Vec<EndpointAddress>>| list.iter().flatten().count();
        assert_eq!(
            (count(&subset.addresses), count(&subset.not_ready_addresses)),
            (1, 1)
        );
    }
}
