//! Common parts of the release's tools:
//! - the init, scale and drain Jobs;
//! - the test Pod;
//! - the container that introduces peers.
//!
//! Tools need a shell, so they always run the rpm image.

use k8s_openapi::api::core::v1::{Container, EnvVar, LocalObjectReference, PodSpec};

use super::{RenderContext, scripts, server};
use crate::release::{APP_VERSION, CLIENT_PORT};
use crate::values::Values;

/// Renders a tool's container with this script and environment.
pub(super) fn container(
    context: &RenderContext<'_>,
    name: &str,
    script: &str,
    env: Vec<EnvVar>,
) -> Container {
    let values = context.values;
    Container {
        name: name.to_owned(),
        image: Some(format!("{}:{APP_VERSION}", values.image.repository)),
        image_pull_policy: Some(values.image.pull_policy.clone()),
        command: Some(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]),
        env: Some(env),
        security_context: Some(values.container_security_context.clone()),
        ..Container::default()
    }
}

/// Renders a tool's pod. It uses the security contexts of the values, not the hardened override.
/// These pods have no tmpfs mounts, and run the rpm image.
pub(super) fn pod(context: &RenderContext<'_>, container: Container, restart_policy: &str) -> PodSpec {
    let values = context.values;
    PodSpec {
        service_account_name: Some(context.release.service_account_name(values)),
        image_pull_secrets: pull_secrets(values),
        security_context: Some(values.security_context.clone()),
        restart_policy: Some(restart_policy.to_owned()),
        containers: vec![container],
        ..PodSpec::default()
    }
}

/// Returns the variables with which the scripts find the pods.
///
/// Ordinal `i` is `$HOST_PREFIX$i$HOST_SUFFIX`, so pods beyond the current replicas have names too.
/// The port is the servers' port, because a headless Service does not translate `service.port`.
/// Nothing here depends on the number of replicas. The servers' pods have these variables too, and
/// scaling must not restart them.
pub(super) fn pods_env(context: &RenderContext<'_>) -> Vec<EnvVar> {
    let cluster = &context.values.cluster;
    vec![
        server::variable("HOST_PREFIX", format!("{}-", context.fullname)),
        server::variable("HOST_SUFFIX", context.release.pod_dns_suffix(context.values)),
        server::variable("PORT", CLIENT_PORT.to_string()),
        server::variable("BUS_PORT", cluster.bus_port.to_string()),
        server::variable("NODE_TIMEOUT_MS", cluster.node_timeout.to_string()),
    ]
}

/// Returns the target size for the Jobs, and the deadline of each condition.
pub(super) fn target_env(context: &RenderContext<'_>) -> Vec<EnvVar> {
    let values = context.values;
    vec![
        server::variable("REPLICAS", values.cluster.replicas.to_string()),
        server::variable(
            "REPLICAS_PER_PRIMARY",
            values.cluster.replicas_per_primary.to_string(),
        ),
        server::variable("TIMEOUT_SECONDS", scripts::timeout_seconds(values).to_string()),
    ]
}

/// Returns the pull secrets, or `None` if there are none.
pub(super) fn pull_secrets(values: &Values) -> Option<Vec<LocalObjectReference>> {
    Some(values.image.pull_secrets.clone()).filter(|secrets| !secrets.is_empty())
}
