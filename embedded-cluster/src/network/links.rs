//! The netlink requests: the bridge and the Services' range in the supervisor's namespace, `eth0`
//! in a pod's.
//!
//! Each function works on the network namespace in which the socket of its `Handle` was opened.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, State};
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::config::{NetworkConfig, PodAddress};
use super::error::NetworkError;
use super::routing;

/// The interface index of `lo`, the first interface of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
/// The kernel's `local` routing table (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;

/// The port that keeps the bridge's carrier on. It is one end of a veth pair, since not every
/// kernel has dummy devices.
const CARRIER: &str = "carrier0";
/// The other end of that pair, which is not connected to anything.
const CARRIER_PEER: &str = "carrier1";
/// The time that an interface may take to become operational. It usually takes microseconds, or
/// milliseconds when the kernel is busy with other namespaces. A lost first packet would be resent
/// only after a second.
const OPERATIONAL_WITHIN: Duration = Duration::from_secs(1);

/// Opens a netlink socket in the calling thread's network namespace and drives it on the current
/// runtime.
pub(crate) fn connect() -> Result<Handle, NetworkError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| NetworkError::io("open a netlink socket", source))?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Brings `lo` up, creates the bridge with the gateway's address, and makes the whole Services'
/// range local ("AnyIP"). A proxy can then bind any ClusterIP. A ClusterIP without a listener
/// refuses at once, as with kube-proxy's REJECT rules. Returns the bridge's interface index.
pub(crate) async fn create_bridge(handle: &Handle, config: &NetworkConfig) -> Result<u32, NetworkError> {
    set_loopback_up(handle).await?;
    let bridge = &config.bridge;
    // The bridge gets a fixed hardware address. Otherwise it would take the lowest of its ports'
    // addresses. That address changes as pods come and go, which leaves other pods with a stale
    // neighbour entry for their gateway.
    let link = LinkBridge::new(bridge)
        .address(hardware_address(config.gateway))
        .down()
        .build();
    add_link(handle, link, bridge).await?;
    let index = index_of(handle, bridge).await?;
    // A bridge without a live port has no carrier and would get one only with its first pod. The
    // kernel then starts to send up to a second later and drops earlier packets. A port from the
    // beginning avoids this delay.
    add_link(
        handle,
        LinkVeth::new(CARRIER, CARRIER_PEER).controller(index).build(),
        CARRIER,
    )
    .await?;
    set_link_state(handle, CARRIER_PEER, true).await?;
    set_link_state(handle, CARRIER, true).await?;
    wait_until_operational(handle, CARRIER).await?;
    set_link_state(handle, bridge, true).await?;
    wait_until_operational(handle, bridge).await?;
    handle
        .address()
        .add(index, IpAddr::V4(config.gateway), config.pod_prefix)
        .execute()
        .await
        .map_err(|source| NetworkError::netlink(format!("give bridge {bridge} its address"), source))?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(
            config.service_network.network(),
            config.service_network.prefix_len(),
        )
        .output_interface(LOOPBACK_INDEX)
        .table_id(LOCAL_TABLE)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .build();
    handle.route().add(route).execute().await.map_err(|source| {
        NetworkError::netlink(
            format!("make the service range {} local", config.service_network),
            source,
        )
    })?;
    Ok(index)
}

/// Creates a veth pair in one request. The host end is on the bridge and up. The other end is
/// `eth0` in the pod's namespace. The pod's end is still down: the kernel cannot open it before the
/// pair exists (ENOTCONN).
pub(crate) async fn create_veth(
    handle: &Handle,
    host_end: &str,
    bridge_index: u32,
    netns: BorrowedFd<'_>,
    ip: Ipv4Addr,
) -> Result<(), NetworkError> {
    let peer = LinkMessageBuilder::<LinkUnspec>::default()
        .name("eth0")
        .setns_by_fd(netns.as_raw_fd())
        .address(hardware_address(ip))
        .build();
    let link = LinkVeth::new(host_end, "eth0")
        .controller(bridge_index)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .up()
        .build();
    handle
        .link()
        .add(link)
        .execute()
        .await
        .map_err(|source| NetworkError::netlink(format!("create veth pair {host_end}"), source))
}

/// Deletes an interface. An interface that is already gone (its peer's namespace died first) is a
/// success.
pub(crate) async fn delete_link(handle: &Handle, name: &str) -> Result<(), NetworkError> {
    let message = LinkUnspec::new_with_name(name).build();
    match handle.link().del_with_message(message).execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(()),
        other => other.map_err(|source| NetworkError::netlink(format!("delete interface {name}"), source)),
    }
}

/// Sets an interface up or down. A partition uses this to cut off a pod without touching its
/// processes.
pub(crate) async fn set_link_state(handle: &Handle, name: &str, up: bool) -> Result<(), NetworkError> {
    let link = LinkUnspec::new_with_name(name);
    let message = if up { link.up() } else { link.down() }.build();
    let what = || format!("take interface {name} {}", if up { "up" } else { "down" });
    handle
        .link()
        .set(message)
        .execute()
        .await
        .map_err(|source| NetworkError::netlink(what(), source))
}

/// Configures `lo`, `eth0` and the default route inside the pod's namespace.
///
/// Runs on its own thread with its own runtime and netlink socket, and ends with them. A network
/// namespace belongs to a thread, so a worker thread that entered one could not be reused.
pub(crate) async fn configure_pod(netns: OwnedFd, address: PodAddress) -> Result<(), NetworkError> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("pod-network".to_owned())
        .spawn(move || {
            // The receiver is gone only when the attaching task was cancelled. Nobody needs the
            // result then.
            let _ = done.send(configure_in_namespace(&netns, address));
        })
        .map_err(|source| NetworkError::io("start the thread that configures a pod's network", source))?;
    result.await.expect("the thread always sends before it ends")
}

fn configure_in_namespace(netns: &OwnedFd, address: PodAddress) -> Result<(), NetworkError> {
    nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)
        .map_err(|source| NetworkError::io("enter the pod's network namespace", source))?;
    allow_low_ports();
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|source| NetworkError::io("start the runtime that configures a pod's network", source))?
        .block_on(configure_interfaces(address))
}

/// Lets any user bind any port, as containerd does by default, so that an unprivileged server can
/// use port 80. `/proc/sys/net` shows the calling thread's namespace.
fn allow_low_ports() {
    if let Err(error) = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0") {
        tracing::warn!(%error, "failed to let unprivileged servers in a pod use ports below 1024");
    }
}

async fn configure_interfaces(address: PodAddress) -> Result<(), NetworkError> {
    let handle = connect()?;
    set_loopback_up(&handle).await?;
    let index = index_of(&handle, "eth0").await?;
    set_link_state(&handle, "eth0", true).await?;
    handle
        .address()
        .add(index, IpAddr::V4(address.ip), address.prefix_len)
        .execute()
        .await
        .map_err(|source| NetworkError::netlink(format!("give eth0 the address {}", address.ip), source))?;
    if address.prefix_len == routing::ALONE {
        routing::reach_gateway(&handle, index, address.gateway).await?;
    }
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(address.gateway)
        .build();
    handle
        .route()
        .add(route)
        .execute()
        .await
        .map_err(|source| NetworkError::netlink(format!("route through {}", address.gateway), source))
}

/// Polls until the interface is operational. The kernel's work queue makes it operational shortly
/// after it is up.
pub(crate) async fn wait_until_operational(handle: &Handle, name: &str) -> Result<(), NetworkError> {
    let begun = Instant::now();
    while begun.elapsed() < OPERATIONAL_WITHIN {
        let mut links = handle.link().get().match_name(name).execute();
        let link = links.try_next().await;
        let link = link.map_err(|source| NetworkError::netlink(format!("find interface {name}"), source))?;
        let up = LinkAttribute::OperState(State::Up);
        if link.is_some_and(|link| link.attributes.contains(&up)) {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    tracing::warn!(
        name,
        "an interface is not operational yet; the first packets may be lost"
    );
    Ok(())
}

async fn add_link(
    handle: &Handle,
    link: rtnetlink::packet_route::link::LinkMessage,
    name: &str,
) -> Result<(), NetworkError> {
    let added = handle.link().add(link).execute().await;
    added.map_err(|source| NetworkError::netlink(format!("create interface {name}"), source))
}

async fn set_loopback_up(handle: &Handle) -> Result<(), NetworkError> {
    let message = LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build();
    handle
        .link()
        .set(message)
        .execute()
        .await
        .map_err(|source| NetworkError::netlink("take interface lo up", source))
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32, NetworkError> {
    let what = || format!("find interface {name}");
    let mut links = handle.link().get().match_name(name).execute();
    let link = links
        .try_next()
        .await
        .map_err(|source| NetworkError::netlink(what(), source))?;
    link.map(|link| link.header.index)
        .ok_or_else(|| NetworkError::io(what(), nix::errno::Errno::ENODEV))
}

/// Returns a locally administered hardware address made from the IPv4 address, as CNI plug-ins do.
/// A new IPv4 address is then always a new neighbour.
pub(super) fn hardware_address(ip: Ipv4Addr) -> Vec<u8> {
    let [a, b, c, d] = ip.octets();
    vec![0x0a, 0x58, a, b, c, d]
}
