//! Address ranges and names of the cluster network, and the part of them that a pod gets.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The bridge's address: every pod's default gateway, as with the `bridge` CNI plug-in.
const DEFAULT_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// The pod range of kind and of kubeadm with flannel, so that addresses look familiar.
const DEFAULT_POD_PREFIX: u8 = 16;
/// kubeadm's default `--service-cluster-ip-range`; the API server allocates from the same range.
pub(crate) const DEFAULT_SERVICE_NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12);
/// The tenth address of the service range, as in kubeadm.
const DEFAULT_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The default domain of every Kubernetes installer.
const DEFAULT_CLUSTER_DOMAIN: &str = "cluster.local";
/// The bridge name in the examples of the `bridge` CNI plug-in.
const DEFAULT_BRIDGE: &str = "cbr0";

/// The layout of the cluster network. `Default` has the values that Kubernetes installers choose.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Name of the bridge, at most 15 bytes.
    pub bridge: String,
    /// The bridge's address, which is the pods' gateway.
    pub gateway: Ipv4Addr,
    /// Length of the pod range's prefix, 1 to 30.
    pub pod_prefix: u8,
    /// The Services' range: network address and prefix length.
    pub service_network: Ipv4Net,
    /// The address on which cluster DNS listens; inside the Services' range.
    pub dns: Ipv4Addr,
    /// The DNS domain of the cluster, without a trailing dot.
    pub cluster_domain: String,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            bridge: DEFAULT_BRIDGE.to_owned(),
            gateway: DEFAULT_GATEWAY,
            pod_prefix: DEFAULT_POD_PREFIX,
            service_network: DEFAULT_SERVICE_NETWORK,
            dns: DEFAULT_DNS,
            cluster_domain: DEFAULT_CLUSTER_DOMAIN.to_owned(),
        }
    }
}

/// The addresses of one pod, assigned when it was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// The pod's address on `eth0`.
    pub ip: Ipv4Addr,
    /// Length of the pod range's prefix.
    pub prefix_len: u8,
    /// The pod's default gateway.
    pub gateway: Ipv4Addr,
    /// The name server for the pod's `resolv.conf`.
    pub dns: Ipv4Addr,
}
