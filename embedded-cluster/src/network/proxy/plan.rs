//! Which ClusterIP and port forwards to which pods. Values in, values out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;

/// The label every EndpointSlice carries the name of its Service in.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Every ClusterIP port that has somewhere to go, with the pods behind it.
pub(crate) type Plan = BTreeMap<SocketAddrV4, Vec<SocketAddrV4>>;

/// The plan for these Services and EndpointSlices. Ports without an endpoint are absent.
pub(crate) fn plan<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: &[impl AsRef<EndpointSlice>],
) -> Plan {
    let mut plan = Plan::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec
            .cluster_ip
            .as_deref()
            .and_then(|ip| ip.parse::<Ipv4Addr>().ok())
        else {
            continue;
        };
        for port in spec
            .ports
            .iter()
            .flatten()
            .filter(|port| is_tcp(port.protocol.as_deref()))
        {
            let Ok(number) = u16::try_from(port.port) else {
                continue;
            };
            let backends = backends(service, port, slices);
            if !backends.is_empty() {
                plan.insert(SocketAddrV4::new(ip, number), backends);
            }
        }
    }
    plan
}

/// What a Service asks for that the proxies do not do, as the text of a warning event.
pub(crate) fn unsupported(service: &Service) -> Vec<String> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let proxied = spec.cluster_ip.as_deref().is_some_and(|ip| ip != "None");
    for port in spec
        .ports
        .iter()
        .flatten()
        .filter(|port| proxied && !is_tcp(port.protocol.as_deref()))
    {
        let protocol = port.protocol.as_deref().unwrap_or_default();
        found.push(format!(
            "port {}/{protocol} is not forwarded: only TCP is",
            port.port
        ));
    }
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        found
            .push("sessionAffinity ClientIP is not kept: every connection picks an endpoint anew".to_owned());
    }
    if let Some(kind @ ("NodePort" | "LoadBalancer")) = spec.type_.as_deref() {
        found.push(format!(
            "type {kind} is reachable inside the cluster only: there are no node ports"
        ));
    }
    found
}

/// Ready endpoints or, when there are none, those that still serve while they terminate, as kube-proxy does.
fn backends(
    service: &Service,
    port: &ServicePort,
    slices: &[impl AsRef<EndpointSlice>],
) -> Vec<SocketAddrV4> {
    let mut ready = Vec::new();
    let mut draining = Vec::new();
    for slice in slices
        .iter()
        .map(AsRef::as_ref)
        .filter(|slice| belongs(slice, service))
    {
        let Some(target) = target_port(slice, port) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse().ok()) else {
                continue;
            };
            let address = SocketAddrV4::new(ip, target);
            match readiness(endpoint) {
                Readiness::Ready => ready.push(address),
                Readiness::ServingWhileTerminating => draining.push(address),
                Readiness::No => {}
            }
        }
    }
    let mut chosen = if ready.is_empty() { draining } else { ready };
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

enum Readiness {
    Ready,
    ServingWhileTerminating,
    No,
}

fn readiness(endpoint: &Endpoint) -> Readiness {
    let Some(conditions) = &endpoint.conditions else {
        return Readiness::Ready;
    };
    if conditions.ready != Some(false) {
        Readiness::Ready
    } else if conditions.serving == Some(true) && conditions.terminating == Some(true) {
        Readiness::ServingWhileTerminating
    } else {
        Readiness::No
    }
}

fn belongs(slice: &EndpointSlice, service: &Service) -> bool {
    slice.address_type == "IPv4"
        && slice.metadata.namespace == service.metadata.namespace
        && slice.labels().get(SERVICE_NAME_LABEL) == service.metadata.name.as_ref()
}

/// The slice's port of the same name: named target ports are already numbers there.
fn target_port(slice: &EndpointSlice, port: &ServicePort) -> Option<u16> {
    let name = port.name.as_deref().unwrap_or_default();
    let found = slice.ports.iter().flatten().find(|candidate| {
        candidate.name.as_deref().unwrap_or_default() == name && is_tcp(candidate.protocol.as_deref())
    })?;
    found.port.and_then(|port| u16::try_from(port).ok())
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn service() -> Service {
        serde_yaml::from_str(
            "{metadata: {name: valkey, namespace: shop}, spec: {clusterIP: 10.96.0.99, \
             ports: [{name: valkey, port: 80, targetPort: valkey}]}}",
        )
        .expect("a Service")
    }

    fn slice(endpoints: &str) -> Arc<EndpointSlice> {
        Arc::new(
            serde_yaml::from_str(&format!(
                "{{metadata: {{name: s, namespace: shop, labels: {{kubernetes.io/service-name: valkey}}}}, \
                 addressType: IPv4, ports: [{{name: valkey, port: 6379}}], endpoints: {endpoints}}}"
            ))
            .expect("an EndpointSlice"),
        )
    }

    fn planned(endpoints: &str) -> Vec<String> {
        let plan = plan([&service()], &[slice(endpoints)]);
        plan.values().flatten().map(ToString::to_string).collect()
    }

    #[test]
    fn only_ready_endpoints_get_connections_on_the_resolved_port() {
        let backends = planned(
            "[{addresses: [10.244.0.2], conditions: {ready: true}}, {addresses: [10.244.0.3], conditions: {ready: false}}]",
        );
        assert_eq!(backends, ["10.244.0.2:6379"]);
    }

    #[test]
    fn endpoints_that_terminate_but_serve_are_the_fallback() {
        let backends = planned(
            "[{addresses: [10.244.0.2], conditions: {ready: false, serving: true, terminating: true}}, \
              {addresses: [10.244.0.3], conditions: {ready: false, serving: false, terminating: true}}]",
        );
        assert_eq!(backends, ["10.244.0.2:6379"]);
    }

    #[test]
    fn a_port_without_endpoints_has_no_listener() {
        assert!(plan([&service()], &[slice("[]")]).is_empty());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let service: Service = serde_yaml::from_str(
            "{metadata: {name: d}, spec: {clusterIP: 10.96.0.9, type: NodePort, sessionAffinity: ClientIP, ports: [{port: 53, protocol: UDP}]}}",
        )
        .expect("a Service");
        let found = unsupported(&service).join("; ");
        assert!(
            found.contains("53/UDP") && found.contains("ClientIP") && found.contains("NodePort"),
            "{found}"
        );
    }
}
