//! What the release's tools have in common: the init, scale and drain Jobs, the test Pod, and the container
//! that introduces peers. They need a shell, so they run the rpm image whatever the servers run.

use k8s_openapi::api::core::v1::{Container, EnvVar, LocalObjectReference, PodSpec};

use super::{Context, scripts, server};
use crate::release::{APP_VERSION, CLIENT_PORT};
use crate::values::Values;

/// A tool's container: the script of this name, with this environment.
pub(super) fn container(context: &Context<'_>, name: &str, script: &str, env: Vec<EnvVar>) -> Container {
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

/// A tool's pod. The security contexts are the values' own, never the hardened override: these pods have no
/// tmpfs mounts, and the rpm image is what it is.
pub(super) fn pod(context: &Context<'_>, container: Container, restart_policy: &str) -> PodSpec {
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

/// How the scripts find the pods: ordinal `i` is `$HOST_PREFIX$i$HOST_SUFFIX`, which needs no list and thus
/// also names pods beyond the current number of replicas.
///
/// The port is the servers' own, not `service.port`: a headless Service does not translate ports, and with the
/// chart's rendering a cluster with another `service.port` is never formed.
///
/// Nothing here depends on the number of replicas: it is part of the servers' pods too, and scaling must
/// restart none of them.
pub(super) fn pods_env(context: &Context<'_>) -> Vec<EnvVar> {
    let cluster = &context.values.cluster;
    vec![
        server::variable("HOST_PREFIX", format!("{}-", context.fullname)),
        server::variable("HOST_SUFFIX", context.release.pod_dns_suffix(context.values)),
        server::variable("PORT", CLIENT_PORT.to_string()),
        server::variable("BUS_PORT", cluster.bus_port.to_string()),
        server::variable("NODE_TIMEOUT_MS", cluster.node_timeout.to_string()),
    ]
}

/// What the Jobs are to bring the cluster to, and how long they wait for each condition on the way.
pub(super) fn target_env(context: &Context<'_>) -> Vec<EnvVar> {
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

/// The pull secrets, absent when there are none.
pub(super) fn pull_secrets(values: &Values) -> Option<Vec<LocalObjectReference>> {
    Some(values.image.pull_secrets.clone()).filter(|secrets| !secrets.is_empty())
}
