//! The cluster's network, inside the supervisor's own network namespace: nothing here is seen by the host.
//!
//! | module | what is in it |
//! |---|---|
//! | `config` | address ranges and names, with their defaults |
//! | `pod_network` | [`Network`]: the bridge, and attaching pods to it |
//! | `addresses` | which pod address comes next |
//! | `links` | the netlink requests, host side and pod side |
//! | `dns` | cluster DNS: the zone made from Services and EndpointSlices, and the server that answers from it |
//! | `proxy` | ClusterIP Services as user-space TCP proxies |
//! | `service_watch` | the watches that feed both |
//!
//! Compared with kube-proxy, a connection through a ClusterIP reaches the pod from the bridge's address, not from
//! the client pod's: connections to pod addresses, which is what Valkey nodes use among themselves, are direct.

mod addresses;
mod config;
mod dns;
mod error;
mod links;
mod pod_network;
mod proxy;
mod service_watch;

pub use config::{NetworkConfig, PodAddress};
pub use error::NetworkError;
pub use pod_network::Network;
