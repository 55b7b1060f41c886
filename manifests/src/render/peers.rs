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

//! It also sees a rotation of the password through. Servers read the Secret when they start; while a rolling restart is
//! under way, a server that has the new password cannot follow a primary that still has the old one. So the password is
//! mounted here too, where the kubelet keeps it current: as soon as a peer has restarted with it, this pod's server
//! accepts it beside its own, until it is restarted itself. No shard is without a replica in sync on the way.

use k8s_openapi::api::core::v1::{Container, KeyToPath, SecretVolumeSource, Volume, VolumeMount};

use super::{Context, scripts, server, tools};
use crate::release::PASSWORD_KEY;
use crate::values::Mode;

const CONTAINER: &str = "peers";
/// The volume with the Secret as it is now, and where the script looks for it.
const AUTH_VOLUME: &str = "auth";
const AUTH_PATH: &str = "/etc/valkey-auth";

/// The container, in cluster mode.
pub(super) fn container(context: &Context<'_>) -> Option<Container> {
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

/// The password, as the kubelet keeps it current.
pub(super) fn volume(context: &Context<'_>) -> Option<Volume> {
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
