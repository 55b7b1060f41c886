//! The two Services: one for clients, one headless for the pods' DNS names and the cluster bus.
//!
//! Both select by component, since Job and test pods carry the release's labels too. Otherwise
//! these pods would become endpoints, and refuse the connections of clients.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{RenderContext, non_empty};
use crate::release::{SERVER_COMPONENT, StringMap};
use crate::values::Mode;

/// Renders the Service that clients use.
pub(super) fn client(context: &RenderContext<'_>) -> Service {
    let values = context.values;
    let mut metadata = context.metadata(&context.fullname);
    metadata.annotations = non_empty(&values.service.annotations);
    let spec = ServiceSpec {
        type_: Some(values.service.r#type.clone()),
        ports: Some(vec![port("valkey", values.service.port)]),
        selector: Some(selector(context)),
        ..ServiceSpec::default()
    };
    Service {
        metadata,
        spec: Some(spec),
        ..Service::default()
    }
}

/// Renders the headless Service. It publishes pods that are not ready, because pods must find each
/// other to form the cluster. None is ready before that.
pub(super) fn headless(context: &RenderContext<'_>) -> Service {
    let values = context.values;
    let mut ports = vec![port("valkey", values.service.port)];
    if values.mode == Mode::Cluster {
        ports.push(port("cluster-bus", values.cluster.bus_port));
    }
    let spec = ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        cluster_ip: Some("None".to_owned()),
        publish_not_ready_addresses: Some(true),
        ports: Some(ports),
        selector: Some(selector(context)),
        ..ServiceSpec::default()
    };
    let metadata = context.metadata(context.release.headless_name(values));
    Service {
        metadata,
        spec: Some(spec),
        ..Service::default()
    }
}

fn selector(context: &RenderContext<'_>) -> StringMap {
    context.release.component_labels(context.values, SERVER_COMPONENT)
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}
