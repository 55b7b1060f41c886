//! The cluster's network, inside the supervisor's network namespace. The host sees nothing of it.
//!
//! | module | what is in it |
//! |---|---|
//! | `config` | address ranges and names, with their defaults |
//! | `pod_network` | [`Network`]: the bridge, and attaching pods to it |
//! | `addresses` | allocation of pod addresses |
//! | `links` | the netlink requests, host side and pod side |
//! | `routing` | routes between pods, without neighbours |
//! | `dns` | cluster DNS: the zone made from Services and EndpointSlices, and its server |
//! | `proxy` | ClusterIP Services as user-space TCP proxies |
//! | `service_watch` | the watches that feed `dns` and `proxy` |
//!
//! Unlike with kube-proxy, a connection through a ClusterIP reaches the pod from the bridge's
//! address, not from the client pod's. Connections to pod addresses, which Valkey nodes use among
//! themselves, are routed without translation.

mod addresses;
mod config;
mod dns;
mod error;
mod links;
mod pod_network;
mod proxy;
mod routing;
mod service_watch;

pub use config::{NetworkConfig, PodAddress};
pub use error::NetworkError;
pub use pod_network::Network;
