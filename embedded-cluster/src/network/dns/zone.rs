//! The names of the cluster's Services and their endpoints, per the Kubernetes DNS specification
//! 1.1.
//!
//! The whole zone is rebuilt whenever a Service or an EndpointSlice changes. A test cluster has
//! tens of names, and a full rebuild is always consistent. There are no `PTR` and `pod` records:
//! nothing in the chart queries them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

/// The label of an EndpointSlice that holds the name of its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Every name of the cluster's domain, relative to it and in lower case
/// (`valkey-0.valkey.default.svc`).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Zone {
    names: BTreeMap<String, Records>,
}

/// The records of one name. If all are empty, the name exists only as the parent of others
/// (NODATA).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) a: BTreeSet<Ipv4Addr>,
    /// SRV records: (port, target relative to the cluster's domain).
    pub(crate) srv: BTreeSet<(u16, String)>,
    /// Target of an ExternalName Service, absolute.
    pub(crate) cname: Option<String>,
}

impl Zone {
    /// Builds the zone of these Services and EndpointSlices.
    pub(crate) fn build<'a>(
        services: impl IntoIterator<Item = &'a Service>,
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
    ) -> Self {
        let mut by_service: BTreeMap<(String, String), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices {
            if let (Some(namespace), Some(service)) =
                (slice.namespace(), slice.labels().get(SERVICE_NAME_LABEL))
            {
                by_service
                    .entry((namespace, service.clone()))
                    .or_default()
                    .push(slice);
            }
        }
        let mut zone = Self::default();
        for service in services {
            let key = (service.namespace().unwrap_or_default(), service.name_any());
            zone.add_service(service, by_service.get(&key).map_or(&[], Vec::as_slice));
        }
        zone
    }

    /// Returns the records of a name relative to the cluster's domain; `None` is NXDOMAIN.
    pub(crate) fn get(&self, name: &str) -> Option<&Records> {
        self.names.get(name)
    }

    fn add_service(&mut self, service: &Service, slices: &[&EndpointSlice]) {
        let base = format!(
            "{}.{}.svc",
            service.name_any(),
            service.namespace().unwrap_or_default()
        )
        .to_lowercase();
        let spec = service.spec.clone().unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") {
            self.entry(&base).cname = spec.external_name;
            return;
        }
        let headless = spec.cluster_ip.as_deref() == Some("None");
        for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
            self.add_endpoints(&base, headless, slice);
        }
        let Some(cluster_ip) = spec.cluster_ip.and_then(|ip| ip.parse().ok()) else {
            return;
        };
        self.entry(&base).a.insert(cluster_ip);
        for port in spec.ports.unwrap_or_default() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            self.add_srv(&base, port.name.as_deref(), protocol, port.port, base.clone());
        }
    }

    /// Adds ready endpoints only. The slice's `ready` conditions already include
    /// `publishNotReadyAddresses`.
    fn add_endpoints(&mut self, base: &str, headless: bool, slice: &EndpointSlice) {
        for endpoint in slice.endpoints.iter().flatten() {
            if endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready)
                == Some(false)
            {
                continue;
            }
            let Some(ip) = endpoint
                .addresses
                .first()
                .and_then(|ip| ip.parse::<Ipv4Addr>().ok())
            else {
                continue;
            };
            let label = match &endpoint.hostname {
                Some(hostname) => hostname.to_lowercase(),
                None => ip.to_string().replace('.', "-"),
            };
            let target = format!("{label}.{base}");
            self.entry(&target).a.insert(ip);
            if !headless {
                continue;
            }
            self.entry(base).a.insert(ip);
            for port in slice.ports.iter().flatten() {
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                if let Some(number) = port.port {
                    self.add_srv(base, port.name.as_deref(), protocol, number, target.clone());
                }
            }
        }
    }

    /// Adds an SRV record. Per the specification, unnamed ports have none.
    fn add_srv(&mut self, base: &str, name: Option<&str>, protocol: &str, port: i32, target: String) {
        if let (Some(name), Ok(port)) = (name.filter(|name| !name.is_empty()), u16::try_from(port)) {
            let owner = format!("_{}._{}.{base}", name.to_lowercase(), protocol.to_lowercase());
            self.entry(&owner).srv.insert((port, target));
        }
    }

    /// Returns the records of a name. Creates the name and all its parents if they are missing.
    fn entry(&mut self, name: &str) -> &mut Records {
        let mut parent = name;
        while let Some((_, rest)) = parent.split_once('.') {
            self.names.entry(rest.to_owned()).or_default();
            parent = rest;
        }
        self.names.entry(name.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(yaml: &str) -> Service {
        serde_yaml::from_str(yaml).expect("a Service")
    }

    fn headless() -> Service {
        service(
            "{metadata: {name: valkey-headless, namespace: shop}, spec: {clusterIP: None, ports: [{name: valkey, port: 6379}]}}",
        )
    }

    fn slice(endpoints: &str) -> EndpointSlice {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: s-1, namespace: shop, labels: {{kubernetes.io/service-name: valkey-headless}}}}, \
             addressType: IPv4, ports: [{{name: valkey, port: 6379, protocol: TCP}}], endpoints: {endpoints}}}"
        ))
        .expect("an EndpointSlice")
    }

    fn addresses(zone: &Zone, name: &str) -> Option<Vec<String>> {
        zone.get(name)
            .map(|records| records.a.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_headless_service_has_its_ready_endpoints_and_pod_names() {
        let slice = slice(
            "[{addresses: [10.244.0.2], hostname: valkey-0, conditions: {ready: true}}, \
              {addresses: [10.244.0.3], hostname: valkey-1, conditions: {ready: false}}, \
              {addresses: [10.244.0.4], conditions: {}}]",
        );
        let zone = Zone::build([&headless()], [&slice]);
        assert_eq!(
            addresses(&zone, "valkey-headless.shop.svc"),
            Some(vec!["10.244.0.2".into(), "10.244.0.4".into()])
        );
        assert_eq!(
            addresses(&zone, "valkey-0.valkey-headless.shop.svc"),
            Some(vec!["10.244.0.2".into()])
        );
        assert_eq!(
            addresses(&zone, "valkey-1.valkey-headless.shop.svc"),
            None,
            "not ready: no name"
        );
        assert_eq!(
            addresses(&zone, "10-244-0-4.valkey-headless.shop.svc"),
            Some(vec!["10.244.0.4".into()])
        );
        let srv = &zone
            .get("_valkey._tcp.valkey-headless.shop.svc")
            .expect("SRV owner")
            .srv;
        assert!(srv.contains(&(6379, "valkey-0.valkey-headless.shop.svc".into())));
        assert_eq!(srv.len(), 2);
    }

    #[test]
    fn parents_exist_without_records_and_other_names_do_not() {
        let zone = Zone::build(
            [&headless()],
            [&slice("[{addresses: [10.244.0.2], hostname: valkey-0}]")],
        );
        assert_eq!(zone.get("shop.svc"), Some(&Records::default()));
        assert_eq!(zone.get("svc"), Some(&Records::default()));
        assert_eq!(zone.get("nowhere.svc"), None);
    }

    #[test]
    fn a_headless_service_without_ready_endpoints_does_not_exist() {
        let zone = Zone::build([&headless()], [&slice("[]")]);
        assert_eq!(zone.get("valkey-headless.shop.svc"), None);
    }

    #[test]
    fn a_cluster_ip_service_always_answers_with_its_cluster_ip() {
        let service = service(
            "{metadata: {name: valkey, namespace: shop}, spec: {clusterIP: 10.96.7.7, ports: [{name: valkey, port: 80}]}}",
        );
        let zone = Zone::build([&service], []);
        assert_eq!(
            addresses(&zone, "valkey.shop.svc"),
            Some(vec!["10.96.7.7".into()])
        );
        let srv = &zone.get("_valkey._tcp.valkey.shop.svc").expect("SRV owner").srv;
        assert_eq!(srv.iter().next(), Some(&(80, "valkey.shop.svc".to_owned())));
    }

    #[test]
    fn an_external_name_is_an_alias() {
        let service = service(
            "{metadata: {name: db, namespace: shop}, spec: {type: ExternalName, externalName: db.example.com}}",
        );
        let zone = Zone::build([&service], []);
        assert_eq!(
            zone.get("db.shop.svc").and_then(|r| r.cname.as_deref()),
            Some("db.example.com")
        );
    }
}
