//! The container `valkey`: environment, ports, mounts and security context of the server.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceRequirements,
    SecretKeySelector, SecurityContext, VolumeMount,
};

use super::{RenderContext, probes};
use crate::release::{APP_VERSION, CLIENT_PORT, PASSWORD_KEY};
use crate::values::{Mode, Values, Variant};

/// The name of the server's container, the pod's first, so that `kubectl exec` and `logs` choose
/// it.
pub(super) const CONTAINER: &str = "valkey";

/// Renders the container.
pub(super) fn container(context: &RenderContext<'_>) -> Container {
    let values = context.values;
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image(values)),
        image_pull_policy: Some(values.image.pull_policy.clone()),
        args: Some(vec!["/etc/valkey/valkey.conf".to_owned()]),
        ports: Some(ports(values)),
        env: Some(env(context)).filter(|env| !env.is_empty()),
        liveness_probe: probes::alive(&values.liveness_probe),
        readiness_probe: probes::ready(&values.readiness_probe, values.mode),
        startup_probe: probes::alive(&values.startup_probe),
        resources: Some(ResourceRequirements {
            limits: Some(values.resources.limits.clone()),
            requests: Some(values.resources.requests.clone()),
            claims: None,
        }),
        security_context: Some(security_context(values)),
        volume_mounts: Some(mounts(values)),
        ..Container::default()
    }
}

/// Returns the variables from the release's Secret. `optional` allows pods to start before the
/// Secret exists.
pub(super) fn password_env(context: &RenderContext<'_>, optional: bool) -> Vec<EnvVar> {
    if !context.values.auth.enabled {
        return Vec::new();
    }
    let selector = SecretKeySelector {
        name: context.release.secret_name(context.values),
        key: PASSWORD_KEY.to_owned(),
        optional: optional.then_some(true),
    };
    let variable = |name: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(selector.clone()),
            ..EnvVarSource::default()
        }),
        value: None,
    };
    // The entrypoint reads the first; every version of valkey-cli reads the second.
    vec![variable("VALKEY_PASSWORD"), variable("REDISCLI_AUTH")]
}

/// Returns a plain variable.
pub(super) fn variable(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.into()),
        value_from: None,
    }
}

/// Returns the pod's own address, which the kubelet sets for each new sandbox.
pub(super) fn pod_ip() -> EnvVar {
    let field = ObjectFieldSelector {
        field_path: "status.podIP".to_owned(),
        api_version: None,
    };
    EnvVar {
        name: "POD_IP".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(field),
            ..EnvVarSource::default()
        }),
        value: None,
    }
}

fn image(values: &Values) -> String {
    let image = &values.image;
    let tag = match (image.tag.as_str(), image.variant) {
        ("", Variant::Rpm) => APP_VERSION.to_owned(),
        ("", Variant::Hardened) => format!("{APP_VERSION}-hardened"),
        (tag, _) => tag.to_owned(),
    };
    format!("{}:{tag}", image.repository)
}

fn ports(values: &Values) -> Vec<ContainerPort> {
    let port = |name: &str, number: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mut ports = vec![port("valkey", CLIENT_PORT)];
    if values.mode == Mode::Cluster {
        ports.push(port("cluster-bus", values.cluster.bus_port));
    }
    ports
}

/// Returns the variables in order: the kubelet expands `$(NAME)` only if it is defined before.
fn env(context: &RenderContext<'_>) -> Vec<EnvVar> {
    let values = context.values;
    let mut env = password_env(context, false);
    let given = [
        ("VALKEY_MAXMEMORY", &values.config.maxmemory),
        ("VALKEY_BIND", &values.config.bind),
    ];
    env.extend(
        given
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| variable(name, *value)),
    );
    match values.mode {
        Mode::Cluster => {
            env.push(pod_ip());
            env.push(variable("VALKEY_EXTRA_FLAGS", cluster_flags(values)));
        }
        Mode::Standalone if !values.config.extra_flags.is_empty() => {
            env.push(variable("VALKEY_EXTRA_FLAGS", &values.config.extra_flags));
        }
        Mode::Standalone => {}
    }
    env
}

/// Returns the flags of cluster mode, including the replica's password for its primary. The
/// entrypoint adds `--requirepass` only, so the kubelet expands the password into the flags here.
/// Like the entrypoint's flag, it reaches the command line unquoted. [`crate::Password`] refuses a
/// password that this would change. Every version has the option `masterauth`; newer ones also know
/// `primaryauth`.
fn cluster_flags(values: &Values) -> String {
    let masterauth = if values.auth.enabled {
        "--masterauth $(VALKEY_PASSWORD) "
    } else {
        ""
    };
    format!(
        "{} {masterauth}--cluster-announce-ip $(POD_IP)",
        values.config.extra_flags
    )
}

fn security_context(values: &Values) -> SecurityContext {
    match values.image.variant {
        Variant::Rpm => values.container_security_context.clone(),
        Variant::Hardened => SecurityContext {
            read_only_root_filesystem: Some(true),
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        },
    }
}

fn mounts(values: &Values) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount("data", "/data"), mount("config", "/etc/valkey")];
    if values.image.variant == Variant::Hardened {
        mounts.extend([mount("tmp", "/tmp"), mount("run", "/run/valkey")]);
    }
    mounts
}
