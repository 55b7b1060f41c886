//! Routes between pods: every packet of a pod goes to its gateway, which is its only neighbour.
//!
//! Pods of one bridge could reach each other directly. Each pair would then take two entries of the
//! kernel's neighbour table, which all network namespaces of the machine share and which has 1024
//! of them. Twelve clusters of ten pods fill it, and then connections fail with timeouts or "no
//! route to host". Permanent entries do not count, and one for each pod is enough here.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::{AddressFamily, route::RouteScope};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::error::NetworkError;
use super::links::hardware_address;

/// The prefix length of a pod's address, with which it has no neighbours but the gateway.
pub(crate) const ALONE: u8 = 32;

/// Lets this namespace forward packets between the ports of its bridge. Returns false where the
/// kernel's settings cannot be changed; pods then need the prefix of their whole range.
pub(crate) fn forward(bridge: &str) -> bool {
    let settings = [
        ("ip_forward".to_owned(), "1"),
        // Pods are told of no shorter way.
        ("conf/all/send_redirects".to_owned(), "0"),
        (format!("conf/{bridge}/send_redirects"), "0"),
    ];
    settings.into_iter().all(|(name, value)| {
        let written = std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value);
        if let Err(error) = &written {
            tracing::warn!(%error, name, "failed to route between pods; they are neighbours instead");
        }
        written.is_ok()
    })
}

/// Makes a pod, or the gateway, a permanent neighbour.
pub(crate) async fn add_neighbour(handle: &Handle, index: u32, ip: Ipv4Addr) -> Result<(), NetworkError> {
    let neighbour = handle.neighbours().add(index, IpAddr::V4(ip));
    neighbour
        .link_layer_address(&hardware_address(ip))
        .replace()
        .execute()
        .await
        .map_err(|source| NetworkError::netlink(format!("add the neighbour {ip}"), source))
}

/// Removes a pod from the neighbours. Does nothing if it is none.
pub(crate) async fn delete_neighbour(handle: &Handle, index: u32, ip: Ipv4Addr) -> Result<(), NetworkError> {
    let mut neighbour = NeighbourMessage::default();
    neighbour.header.family = AddressFamily::Inet;
    neighbour.header.ifindex = index;
    let destination = NeighbourAttribute::Destination(NeighbourAddress::Inet(ip));
    neighbour.attributes.push(destination);
    match handle.neighbours().del(neighbour).execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENOENT => Ok(()),
        other => other.map_err(|source| NetworkError::netlink(format!("delete the neighbour {ip}"), source)),
    }
}

/// Makes the gateway reachable from a pod that has no other neighbour.
pub(crate) async fn reach_gateway(
    handle: &Handle,
    index: u32,
    gateway: Ipv4Addr,
) -> Result<(), NetworkError> {
    add_neighbour(handle, index, gateway).await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(gateway, ALONE)
        .output_interface(index)
        .scope(RouteScope::Link)
        .build();
    let added = handle.route().add(route).execute().await;
    added.map_err(|source| NetworkError::netlink(format!("reach the gateway {gateway}"), source))
}
