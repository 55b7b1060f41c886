//! The container `peers`: what lets a cluster survive the replacement of all its pods at once.
//!
//! Valkey remembers its peers by address. When every pod has got a new address, every address in every
//! `nodes.conf` is stale, no node can reach any other, and Valkey alone never recovers. The stable names are the
//! headless ones, but CLUSTER MEET takes addresses only, and resolving names takes a tool.
//!
//! So a small container beside each server watches it, and while the server misses peers it asks each peer *by
//! name* to meet *this pod's own address*, which the kubelet knows. Only peers that already know this node's ID
//! are asked: a node that was forgotten, or never belonged, is not brought in.
//!
//! Why this way (tried with real servers): CLUSTER MEET refuses names; probes and lifecycle hooks of a shell-free
//! image cannot learn the pod's address, as the kubelet expands only static variables in them; an init container
//! that rewrites `nodes.conf` races with pods that start at the same moment; stable addresses through one Service
//! per pod would announce something other than the pod's address. A regular container rather than a native
//! sidecar, because the chart supports Kubernetes 1.23 and native sidecars need 1.29.

use k8s_openapi::api::core::v1::Container;

use super::{Context, scripts, server, tools};
use crate::values::Mode;

const CONTAINER: &str = "peers";

/// The container, in cluster mode.
pub(super) fn container(context: &Context<'_>) -> Option<Container> {
    if context.values.mode != Mode::Cluster {
        return None;
    }
    let mut env = server::password_env(context, false);
    env.extend(tools::pods_env(context));
    env.push(server::pod_ip());
    Some(tools::container(
        context,
        CONTAINER,
        scripts::INTRODUCE_PEERS,
        env,
    ))
}
