//! The container `peers`, with which a cluster survives the replacement of all its pods at once.
//!
//! Valkey remembers its peers by address. When every pod has a new address, every address in every
//! `nodes.conf` is stale. No node can then reach any other, and Valkey never recovers without help.
//! The names of the headless Service are stable. But CLUSTER MEET takes addresses only, and
//! resolving names takes a tool.
//!
//! A small container next to each server therefore watches that server. While the server misses
//! peers, it asks each peer *by name* to meet *this pod's own address*. It asks only peers that
//! already know this node's ID. A node that was forgotten, or never belonged, thus stays out.
//!
//! Alternatives that fail (tried with real servers):
//! - CLUSTER MEET refuses names.
//! - Probes and lifecycle hooks of a shell-free image only get static variables, not the address.
//! - An init container that rewrites `nodes.conf` races with pods that start at the same moment.
//! - With one Service per pod, a server would announce an address other than its pod's.
//!
//! A native sidecar would need Kubernetes 1.29, but the chart supports 1.23.

//! The container also completes a password rotation. Servers read the Secret only when they start.
//! During a rolling restart, a server with the new password cannot follow a primary with the old
//! one. The container therefore mounts the password, which the kubelet keeps current. As soon as a
//! peer has restarted with the new one, this server accepts both until its own restart. No shard is
//! without a replica in sync meanwhile.

use k8s_openapi::api::core::v1::{Container, KeyToPath, SecretVolumeSource, Volume, VolumeMount};

use super::{RenderContext, scripts, server, tools};
use crate::release::PASSWORD_KEY;
use crate::values::Mode;

const CONTAINER: &str = "peers";
/// The volume with the current Secret, and the path at which the script reads it.
const AUTH_VOLUME: &str = "auth";
const AUTH_PATH: &str = "/etc/valkey-auth";

/// Renders the container, in cluster mode only.
pub(super) fn container(context: &RenderContext<'_>) -> Option<Container> {
    if context.values.mode != Mode::Cluster {
        return None;
    }
    let mut env = server::password_env(context, false);
    env.extend(tools::pods_env(context));
    env.push(server::pod_ip());
    let mut container = tools::container(context, CONTAINER, scripts::INTRODUCE_PEERS, env);
    if context.values.auth.enabled {
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: AUTH_VOLUME.to_owned(),
            mount_path: AUTH_PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    Some(container)
}

/// Renders the volume with the password, which the kubelet keeps current.
pub(super) fn volume(context: &RenderContext<'_>) -> Option<Volume> {
    let values = context.values;
    if values.mode != Mode::Cluster || !values.auth.enabled {
        return None;
    }
    let password = KeyToPath {
        key: PASSWORD_KEY.to_owned(),
        path: PASSWORD_KEY.to_owned(),
        ..KeyToPath::default()
    };
    Some(Volume {
        name: AUTH_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(context.release.secret_name(values)),
            items: Some(vec![password]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    })
}
