//! State that all parts of the node share.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use tokio::time::Instant;

use super::events::EventSink;
use super::exec::Executor;
use super::volumes::VolumeMaker;
use crate::delays::Delays;
use crate::health::Health;
use crate::images::ImageStore;
use crate::network::Network;

/// The shared state; one per node.
pub(crate) struct NodeContext {
    pub(crate) client: Client,
    pub(crate) network: Arc<Network>,
    pub(crate) images: ImageStore,
    pub(crate) executor: Executor,
    pub(crate) events: EventSink,
    pub(crate) volumes: VolumeMaker,
    pub(crate) state_dir: PathBuf,
    pub(crate) health: Health,
    pub(crate) delays: Delays,
    /// The directory of this cluster's cgroups.
    pub(crate) cgroups: String,
    /// The start time of the node, from which the times of its `relist` checks are counted.
    pub(crate) started: Instant,
    pub(crate) ip: Ipv4Addr,
}

impl NodeContext {
    /// Waits until the node next checks for ended containers.
    pub(crate) async fn relist(&self) {
        let period = self.delays.relist;
        if period.is_zero() {
            return;
        }
        let looks = self.started.elapsed().as_nanos() / period.as_nanos() + 1;
        let next = period.saturating_mul(u32::try_from(looks).unwrap_or(u32::MAX));
        // This wait simulates the kubelet's relist interval.
        tokio::time::sleep_until(self.started + next).await;
    }
}
