//! The forwarding plan: ClusterIPs and ports, and the pods behind them. Pure.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;

/// The label of an EndpointSlice that holds the name of its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Every ClusterIP port with at least one endpoint, with the pods behind it.
pub(crate) type Plan = BTreeMap<SocketAddrV4, Backends>;

/// The pods behind a port, and the pause after which a client may get another pod
/// (`sessionAffinity: ClientIP`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backends {
    pub(crate) addresses: Vec<SocketAddrV4>,
    pub(crate) affinity: Option<Duration>,
}

/// Kubernetes' default for `sessionAffinityConfig.clientIP.timeoutSeconds`: three hours.
const AFFINITY: i32 = 10_800;

/// Builds the plan for these Services and EndpointSlices. Ports without an endpoint are absent.
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
            let addresses = backends(service, port, slices);
            if !addresses.is_empty() {
                let affinity = affinity(spec);
                plan.insert(SocketAddrV4::new(ip, number), Backends { addresses, affinity });
            }
        }
    }
    plan
}

fn affinity(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref());
    let seconds = config
        .and_then(|config| config.timeout_seconds)
        .unwrap_or(AFFINITY);
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Returns the ready endpoints. If there are none, returns those that still serve while they
/// terminate, as kube-proxy does.
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

/// Returns the number of the slice's port with this name. The slice already has numbers for named
/// target ports.
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
        let addresses = plan.values().flat_map(|backends| &backends.addresses);
        addresses.map(ToString::to_string).collect()
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
    fn affinity_lasts_three_hours_unless_told() {
        for (more, expected) in [
            ("", None),
            ("sessionAffinity: None, ", None),
            ("sessionAffinity: ClientIP, ", Some(10_800)),
            (
                "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 7}}, ",
                Some(7),
            ),
        ] {
            let spec: ServiceSpec =
                serde_yaml::from_str(&format!("{{{more}clusterIP: 10.96.0.9}}")).expect("a spec");
            assert_eq!(affinity(&spec), expected.map(Duration::from_secs), "{more}");
        }
    }
}
