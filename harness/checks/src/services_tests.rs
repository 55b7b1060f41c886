//! Tests of one broken promise at a time.

use super::super::fixture::Fixture;
use super::*;

fn service(name: &str, headless: bool, pods: &[PodFacts]) -> ServiceFacts {
    let ports = BTreeMap::from([("valkey".to_owned(), 6379), ("cluster-bus".to_owned(), 16379)]);
    ServiceFacts {
        name: name.to_owned(),
        headless,
        publish_not_ready: headless,
        ports: ports.clone(),
        endpoints: pods
            .iter()
            .map(|pod| EndpointFacts {
                address: pod.ip.clone().expect("an address"),
                pod: Some(pod.name.clone()),
                ready: true,
                terminating: false,
                ports: ports.clone(),
            })
            .collect(),
    }
}

fn healthy() -> (Vec<ServiceFacts>, Vec<PodFacts>) {
    let pods = Fixture::cluster(6, 1).pods;
    (
        vec![
            service("valkey", false, &pods),
            service("valkey-headless", true, &pods),
        ],
        pods,
    )
}

fn only(violations: Vec<Violation>) -> Violation {
    let [violation] =
        <[Violation; 1]>::try_from(violations).unwrap_or_else(|all| panic!("not exactly one: {all:#?}"));
    violation
}

#[test]
fn services_that_lead_to_exactly_the_servers_are_fine() {
    let (services, pods) = healthy();
    assert_eq!(check(Mode::Cluster, &services, &pods), []);
}

#[test]
fn a_job_pod_among_the_endpoints_is_named() {
    let (mut services, pods) = healthy();
    let mut job = services[0].endpoints[0].clone();
    job.pod = Some("valkey-cluster-init-x7k2p".to_owned());
    job.address = "10.244.0.40".to_owned();
    services[0].endpoints.push(job);
    let violation = only(check(Mode::Cluster, &services, &pods));
    assert_eq!(violation.subject, "Service valkey");
    assert_eq!(violation.seen, "valkey-cluster-init-x7k2p at 10.244.0.40");
}

#[test]
fn a_server_that_is_left_out_is_named() {
    let (mut services, pods) = healthy();
    services[1].endpoints.remove(3);
    assert_eq!(
        only(check(Mode::Cluster, &services, &pods)).expected,
        "valkey-3 among its ready endpoints"
    );
}

#[test]
fn the_headless_service_of_a_cluster_must_publish_unready_pods() {
    let (mut services, pods) = healthy();
    services[1].publish_not_ready = false;
    assert_eq!(
        only(check(Mode::Cluster, &services, &pods)).expected,
        "publishNotReadyAddresses: true"
    );
    assert_eq!(check(Mode::Standalone, &services, &pods), []);
}

#[test]
fn a_target_port_that_no_container_has_is_named() {
    let (mut services, pods) = healthy();
    for endpoint in &mut services[1].endpoints {
        endpoint.ports.remove("cluster-bus");
    }
    let violation = only(check(Mode::Cluster, &services, &pods));
    assert_eq!(violation.expected, "port cluster-bus on every endpoint");
    assert!(violation.seen.starts_with("none for valkey-0, valkey-1"));
    services[1].ports.remove("cluster-bus");
    assert_eq!(
        only(check(Mode::Cluster, &services, &pods)).expected,
        "a port for clients and one for the cluster bus"
    );
}

/// Copies a Service with `name` as the name of its client port.
fn renamed(service: &ServiceFacts, name: &str) -> ServiceFacts {
    let rename = |ports: &BTreeMap<String, i32>| {
        let named = |(key, port): (&String, &i32)| (key.replace("valkey", name), *port);
        ports.iter().map(named).collect()
    };
    let mut service = service.clone();
    service.ports = rename(&service.ports);
    for endpoint in &mut service.endpoints {
        endpoint.ports = rename(&endpoint.ports);
    }
    service
}

#[test]
fn what_ports_are_called_is_not_promised() {
    let (services, pods) = healthy();
    let services: Vec<_> = services
        .iter()
        .map(|service| renamed(service, "tcp-redis"))
        .collect();
    assert_eq!(check(Mode::Cluster, &services, &pods), []);
}

#[test]
fn services_beside_those_of_the_documentation_are_fine() {
    let (mut services, pods) = healthy();
    // Services for every server's metrics, for some servers, for a tool, and for nothing yet.
    let mut metrics = service("valkey-metrics", false, &pods);
    metrics.ports = BTreeMap::from([("metrics".to_owned(), 9121)]);
    for endpoint in &mut metrics.endpoints {
        endpoint.ports.clone_from(&metrics.ports);
    }
    let some = service("valkey-primary", false, &pods[..1]);
    let mut tool = service("valkey-exporter", false, &pods[..1]);
    tool.endpoints[0].pod = Some("exporter-5d9".to_owned());
    let nothing = service("valkey-later", false, &[]);
    let mut ready_only = service("valkey-ready", true, &pods);
    ready_only.publish_not_ready = false;
    services.extend([metrics, some, tool, nothing, ready_only]);
    assert_eq!(check(Mode::Cluster, &services, &pods), []);
}

#[test]
fn a_service_that_selects_nothing_is_named_if_there_is_no_other() {
    let (mut services, pods) = healthy();
    services[0].endpoints.clear();
    assert_eq!(
        check(Mode::Cluster, &services, &pods).len(),
        6,
        "every server is left out"
    );
}

#[test]
fn the_client_service_needs_no_unready_or_leaving_pods() {
    let (mut services, mut pods) = healthy();
    services[0]
        .endpoints
        .retain(|endpoint| endpoint.pod.as_deref() != Some("valkey-4"));
    pods[4].ready = false;
    services[0]
        .endpoints
        .retain(|endpoint| endpoint.pod.as_deref() != Some("valkey-5"));
    services[1]
        .endpoints
        .retain(|endpoint| endpoint.pod.as_deref() != Some("valkey-5"));
    pods[5].terminating = true;
    assert_eq!(check(Mode::Cluster, &services, &pods), []);
}

#[test]
fn no_service_at_all_is_not_healthy() {
    assert_eq!(check(Mode::Cluster, &[], &healthy().1).len(), 2);
}

#[test]
fn objects_are_read_and_missing_conditions_mean_ready() {
    let service: Service = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "v-headless"},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": true, "ports": [{"name": "valkey", "port": 6379}]},
    }))
    .expect("a Service");
    let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "v-headless-1", "labels": {"kubernetes.io/service-name": "v-headless"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.10"], "targetRef": {"kind": "Pod", "name": "v-0"}}],
        "ports": [{"name": "valkey", "port": 6379}],
    }))
    .expect("an EndpointSlice");
    let facts = ServiceFacts::from_objects(&service, &[slice]);
    assert!(facts.headless && facts.publish_not_ready && facts.endpoints[0].ready);
    assert_eq!(facts.endpoints[0].pod.as_deref(), Some("v-0"));
}
