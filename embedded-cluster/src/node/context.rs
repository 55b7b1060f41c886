//! What everything on the node shares.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;

use super::events::EventSink;
use super::exec::Executor;
use super::volumes::VolumeMaker;
use crate::images::ImageStore;
use crate::network::Network;

/// One per node.
pub(crate) struct NodeContext {
    pub(crate) client: Client,
    pub(crate) network: Arc<Network>,
    pub(crate) images: ImageStore,
    pub(crate) executor: Executor,
    pub(crate) events: EventSink,
    pub(crate) volumes: VolumeMaker,
    pub(crate) state_dir: PathBuf,
    pub(crate) ip: Ipv4Addr,
}
