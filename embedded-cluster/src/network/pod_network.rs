//! [`Network`]: the bridge, the pods attached to it, and the services that use it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::addresses::AddressPool;
use super::config::{NetworkConfig, PodAddress};
use super::error::NetworkError;
use super::{links, routing, service_watch};
use crate::runtime::PodKey;

/// The cluster network of one supervisor. It is cheap to share in an `Arc`; every method takes
/// `&self`.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    handle: rtnetlink::Handle,
    bridge_index: u32,
    /// True if packets between pods are routed; otherwise pods are neighbours of each other.
    routed: bool,
    state: Mutex<Allocations>,
}

#[derive(Debug)]
struct Allocations {
    pool: AddressPool,
    attached: HashMap<PodKey, Attachment>,
}

/// One attached pod.
#[derive(Clone, Debug)]
struct Attachment {
    ip: Ipv4Addr,
    host_end: String,
}

impl Network {
    /// Creates the bridge in the current network namespace, which must be fresh and owned by the
    /// caller. All threads of the calling tokio runtime must be in that namespace.
    ///
    /// # Errors
    /// Fails when the kernel refuses a request, or the pod range has no room.
    pub async fn setup(config: NetworkConfig) -> Result<Self, NetworkError> {
        let pool = AddressPool::new(config.gateway, config.pod_prefix)
            .ok_or(NetworkError::BadPrefix(config.pod_prefix))?;
        let handle = links::connect()?;
        let bridge_index = links::create_bridge(&handle, &config).await?;
        let routed = routing::forward(&config.bridge);
        let state = Mutex::new(Allocations {
            pool,
            attached: HashMap::new(),
        });
        Ok(Self {
            config,
            handle,
            bridge_index,
            routed,
            state,
        })
    }

    /// Attaches a pod to the bridge. `netns` is the pod's network namespace, which must not have an
    /// `eth0` yet. On failure, the address is free again and no interface is left.
    ///
    /// # Errors
    /// Fails when the range is exhausted, the pod is already attached, or the kernel refuses a
    /// request.
    pub async fn attach(&self, pod: &PodKey, netns: BorrowedFd<'_>) -> Result<PodAddress, NetworkError> {
        let attachment = self.reserve(pod)?;
        match self.connect_pod(&attachment, netns).await {
            Ok(address) => Ok(address),
            Err(error) => {
                if let Err(error) = self.release(pod).await {
                    tracing::warn!(%error, pod = pod.name, "failed to remove an incomplete veth pair");
                }
                Err(error)
            }
        }
    }

    /// Detaches a pod from the bridge and frees its address. Does nothing for a pod that is not
    /// attached.
    ///
    /// # Errors
    /// Fails when the kernel refuses to delete the pod's interface.
    pub async fn release(&self, pod: &PodKey) -> Result<(), NetworkError> {
        let Some(attachment) = self.lock().attached.remove(pod) else {
            return Ok(());
        };
        let mut deleted = links::delete_link(&self.handle, &attachment.host_end).await;
        if self.routed {
            let forgotten = routing::delete_neighbour(&self.handle, self.bridge_index, attachment.ip).await;
            deleted = deleted.and(forgotten);
        }
        self.lock().pool.release(attachment.ip);
        deleted
    }

    /// Cuts a pod off the bridge (`connected: false`) or reconnects it. The pod's interfaces and
    /// processes only stop receiving packets, as with a network partition. Does nothing for a pod
    /// that is not attached.
    ///
    /// # Errors
    /// Fails when the kernel refuses the request.
    pub async fn set_connected(&self, pod: &PodKey, connected: bool) -> Result<(), NetworkError> {
        let Some(attachment) = self.lock().attached.get(pod).cloned() else {
            return Ok(());
        };
        links::set_link_state(&self.handle, &attachment.host_end, connected).await
    }

    /// Serves cluster DNS and the ClusterIP proxies until cancelled. Binds the listeners first, so
    /// that a failure shows at once. The proxies change at most once per `data_plane`, and a
    /// quarter of it after a change.
    ///
    /// # Errors
    /// Fails when cluster DNS cannot bind its address.
    pub async fn run(
        &self,
        client: Client,
        data_plane: Duration,
        cancel: CancellationToken,
    ) -> Result<(), NetworkError> {
        service_watch::run(&self.config, client, data_plane, cancel).await
    }

    fn reserve(&self, pod: &PodKey) -> Result<Attachment, NetworkError> {
        let mut state = self.lock();
        if state.attached.contains_key(pod) {
            let PodKey { namespace, name, uid } = pod.clone();
            return Err(NetworkError::AlreadyAttached { namespace, name, uid });
        }
        let ip = state.pool.take().ok_or(NetworkError::AddressesExhausted {
            gateway: self.config.gateway,
            prefix_len: self.config.pod_prefix,
        })?;
        // Eight hexadecimal digits keep the name under the kernel's 15 bytes. The name is unique as
        // long as the address is.
        let attachment = Attachment {
            ip,
            host_end: format!("veth{:08x}", ip.to_bits()),
        };
        state.attached.insert(pod.clone(), attachment.clone());
        Ok(attachment)
    }

    async fn connect_pod(
        &self,
        attachment: &Attachment,
        netns: BorrowedFd<'_>,
    ) -> Result<PodAddress, NetworkError> {
        let address = PodAddress {
            ip: attachment.ip,
            prefix_len: if self.routed {
                routing::ALONE
            } else {
                self.config.pod_prefix
            },
            gateway: self.config.gateway,
            dns: self.config.dns,
        };
        let owned = netns
            .try_clone_to_owned()
            .map_err(|source| NetworkError::io("keep the pod's network namespace open", source))?;
        links::create_veth(
            &self.handle,
            &attachment.host_end,
            self.bridge_index,
            netns,
            address.ip,
        )
        .await?;
        if self.routed {
            routing::add_neighbour(&self.handle, self.bridge_index, address.ip).await?;
        }
        links::configure_pod(owned, address).await?;
        // The pod's servers send their first packets now: the bridge port must already forward
        // them.
        links::wait_until_operational(&self.handle, &attachment.host_end).await?;
        Ok(address)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Allocations> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
