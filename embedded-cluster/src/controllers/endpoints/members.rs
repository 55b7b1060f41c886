//! Endpoints of a Service: its pods, their ports and conditions.

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

use crate::controllers::pods::{ip, is_finished, is_ready, is_terminating};

/// One pod behind a Service.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) ip: String,
    pub(crate) ports: Vec<MemberPort>,
    pub(crate) hostname: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) pod: ObjectReference,
    /// The condition `ready` in the slice: always true with `publishNotReadyAddresses`.
    pub(crate) ready: bool,
    /// The readiness of the pod itself, also while it terminates.
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
}

/// A port of the Service as this pod has it. Pods may use different numbers for one port name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberPort {
    pub(crate) name: Option<String>,
    pub(crate) number: i32,
    pub(crate) protocol: String,
    pub(crate) app_protocol: Option<String>,
}

/// Returns the Service's endpoints among `pods` (the pods of its namespace), ordered by name.
/// Returns `None` without a selector: the user manages such a Service's endpoints.
pub(crate) fn members<'a>(service: &Service, pods: impl Iterator<Item = &'a Pod>) -> Option<Vec<Member>> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let selected = pods.filter(|pod| {
        selector
            .iter()
            .all(|(key, value)| pod.labels().get(key) == Some(value))
    });
    let mut members: Vec<Member> = selected.filter_map(|pod| member(service, pod)).collect();
    members.sort_by(|a, b| a.pod.name.cmp(&b.pod.name));
    Some(members)
}

/// Returns the pod as an endpoint: from when it has an address until it has ended.
fn member(service: &Service, pod: &Pod) -> Option<Member> {
    if is_finished(pod) {
        return None;
    }
    let spec = service.spec.as_ref()?;
    let (serving, terminating) = (is_ready(pod), is_terminating(pod));
    let pod_spec = pod.spec.as_ref();
    let in_subdomain = pod_spec.and_then(|spec| spec.subdomain.as_ref()) == service.metadata.name.as_ref();
    let mut ports: Vec<MemberPort> = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| member_port(port, pod))
        .collect();
    ports.sort_unstable();
    Some(Member {
        ip: ip(pod)?.to_owned(),
        ports,
        hostname: pod_spec
            .and_then(|spec| spec.hostname.clone())
            .filter(|_| in_subdomain),
        node: pod_spec.and_then(|spec| spec.node_name.clone()),
        pod: ObjectReference {
            api_version: None,
            resource_version: None,
            ..pod.object_ref(&())
        },
        ready: spec.publish_not_ready_addresses == Some(true) || (serving && !terminating),
        serving,
        terminating,
    })
}

/// Returns the port with its number in this pod; `None` when the pod has no port of that name.
fn member_port(port: &ServicePort, pod: &Pod) -> Option<MemberPort> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) if name.is_empty() => port.port,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let same = |given: Option<&str>| given.unwrap_or("TCP") == protocol;
            ports
                .find(|port| port.name.as_ref() == Some(name) && same(port.protocol.as_deref()))?
                .container_port
        }
    };
    Some(MemberPort {
        name: port.name.clone(),
        number,
        protocol,
        app_protocol: port.app_protocol.clone(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn service(extra: &str) -> Service {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: valkey, namespace: shop, uid: u}}, spec: {{selector: {{app: valkey}}, {extra} \
             ports: [{{name: valkey, port: 80, targetPort: client}}]}}}}"
        ))
        .expect("a Service")
    }

    pub(crate) fn pod(name: &str, ready: &str, meta: &str) -> Pod {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: {name}, namespace: shop, labels: {{app: valkey}}{meta}}}, \
             spec: {{hostname: {name}, subdomain: valkey, containers: [{{name: c, ports: [{{name: client, containerPort: 6379}}]}}]}}, \
             status: {{phase: Running, podIP: 10.244.0.9, conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
        ))
        .expect("a Pod")
    }

    fn conditions(service: &Service, pod: &Pod) -> Option<(bool, bool, bool)> {
        let members = members(service, [pod].into_iter()).expect("a selector");
        members
            .first()
            .map(|member| (member.ready, member.serving, member.terminating))
    }

    const GOING: &str = ", deletionTimestamp: '2026-01-01T00:00:00Z'";

    #[test]
    fn publish_not_ready_addresses_overrides_the_pods_readiness() {
        let (plain, published) = (service(""), service("publishNotReadyAddresses: true,"));
        assert_eq!(
            conditions(&plain, &pod("a", "False", "")),
            Some((false, false, false))
        );
        assert_eq!(
            conditions(&published, &pod("a", "False", "")),
            Some((true, false, false))
        );
        assert_eq!(
            conditions(&plain, &pod("a", "True", GOING)),
            Some((false, true, true))
        );
        assert_eq!(
            conditions(&published, &pod("a", "True", GOING)),
            Some((true, true, true))
        );
    }

    #[test]
    fn a_pod_enters_with_its_address_and_leaves_when_it_ends() {
        let mut starting = pod("a", "False", "");
        starting.status.as_mut().expect("status").pod_ip = None;
        assert_eq!(conditions(&service(""), &starting), None);
        let mut ended = pod("a", "False", "");
        ended.status.as_mut().expect("status").phase = Some("Succeeded".into());
        assert_eq!(conditions(&service(""), &ended), None);
    }

    #[test]
    fn named_ports_and_hostnames_are_resolved_per_pod() {
        let found = members(&service(""), [&pod("valkey-0", "True", "")].into_iter()).expect("a selector");
        assert_eq!(
            (found[0].ports[0].number, found[0].hostname.as_deref()),
            (6379, Some("valkey-0"))
        );
        let mut other = pod("valkey-0", "True", "");
        let spec = other.spec.as_mut().expect("spec");
        spec.subdomain = Some("elsewhere".into());
        spec.containers[0].ports = None;
        let found = members(&service(""), [&other].into_iter()).expect("a selector");
        assert!(found[0].ports.is_empty() && found[0].hostname.is_none());
    }

    #[test]
    fn without_a_selector_endpoints_are_the_users() {
        let mut service = service("");
        service.spec.as_mut().expect("spec").selector = Some([].into());
        assert!(members(&service, [].into_iter()).is_none());
    }
}
