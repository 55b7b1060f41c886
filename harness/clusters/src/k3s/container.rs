//! The k3s container: its image, its start, its commands, and its kubeconfig for the outside. These
//! functions are pure; none calls an engine.

use std::collections::HashMap;
use std::path::Path;

use kube::config::Kubeconfig;
use testcontainers::bollard::models::PortBinding;
use testcontainers::core::{CgroupnsMode, ContainerPort, Mount};
use testcontainers::{ContainerRequest, GenericImage, ImageExt};

use super::engine::K3sError;
use crate::versions::{K3S_REPOSITORY, KubeVersion};
use settings::RUN_LABEL;

/// The port of the API server in the container.
pub(super) const API_PORT: ContainerPort = ContainerPort::Tcp(6443);

/// Path of the run's image archive in the container. The folder is neither a k3s volume nor a
/// tmpfs.
const ARCHIVE: &str = "/valkey-e2e/images.tar";

/// Prints the kubeconfig that k3s wrote.
pub(super) const READ_KUBECONFIG: [&str; 2] = ["cat", "/etc/rancher/k3s/k3s.yaml"];

/// Imports the archive into the kubelet's containerd namespace, `k8s.io`. The containerd of k3s has
/// a non-standard address.
pub(super) const IMPORT_IMAGES: [&str; 8] = [
    "ctr",
    "--address",
    "/run/k3s/containerd/containerd.sock",
    "--namespace",
    "k8s.io",
    "images",
    "import",
    ARCHIVE,
];

/// The command of k3s, without the parts that no trial needs. DNS and storage stay.
const COMMAND: [&str; 4] = [
    "server",
    "--disable=traefik",
    "--disable=servicelb",
    "--disable=metrics-server",
];

/// The network position from which the API server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The engine is on this machine. The API server of a privileged container must not be public.
    Loopback,
    /// The engine is elsewhere, or this process is in one of its containers.
    Network,
}

impl Reach {
    /// Returns the reach of an engine at `docker_host` (the value of `DOCKER_HOST`). `in_container`
    /// is true if this process runs in a container.
    pub(super) fn of(docker_host: Option<&str>, in_container: bool) -> Self {
        let local = docker_host.is_none_or(|host| host.starts_with("unix://"));
        if local && !in_container {
            Self::Loopback
        } else {
            Self::Network
        }
    }
}

/// The image of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    tag: String,
}

impl Image {
    pub(super) fn of(version: &KubeVersion) -> Self {
        Self {
            tag: version.k3s_tag(),
        }
    }

    /// Returns the reference for `docker pull`.
    pub(super) fn reference(&self) -> String {
        format!("{K3S_REPOSITORY}:{}", self.tag)
    }
}

/// Builds the container request for `run`: named and labelled after it, with the archive inside.
pub(super) fn request(
    image: &Image,
    run: &str,
    archive: &Path,
    reach: Reach,
) -> ContainerRequest<GenericImage> {
    let image = GenericImage::new(K3S_REPOSITORY.to_owned(), image.tag.clone()).with_exposed_port(API_PORT);
    let request = image
        .with_cmd(COMMAND)
        .with_container_name(run)
        .with_label(RUN_LABEL, run)
        // The kubelet creates cgroups, mounts and network interfaces.
        .with_privileged(true)
        .with_cgroupns_mode(CgroupnsMode::Host)
        .with_mount(Mount::tmpfs_mount("/run"))
        .with_mount(Mount::tmpfs_mount("/var/run"))
        .with_startup_timeout(super::START)
        .with_copy_to(ARCHIVE, archive.to_owned());
    match reach {
        Reach::Network => request,
        Reach::Loopback => request.with_host_config_modifier(|host| {
            let binding = PortBinding {
                host_ip: Some("127.0.0.1".to_owned()),
                // The engine chooses a free one.
                host_port: Some("0".to_owned()),
            };
            host.publish_all_ports = Some(false);
            host.port_bindings = Some(HashMap::from([(API_PORT.to_string(), Some(vec![binding]))]));
        }),
    }
}

/// Adapts the kubeconfig that k3s wrote for use inside of the container. Sets the published port,
/// and replaces every name `default` with the run's name.
pub(super) fn kubeconfig(written: &str, host: &str, port: u16, run: &str) -> Result<Kubeconfig, K3sError> {
    let mut kubeconfig = Kubeconfig::from_yaml(written)?;
    // `localhost` may also resolve to ::1, where nothing is published.
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    let unexpected = || K3sError::Unexpected {
        written: written
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("server:"))
            .collect(),
    };
    let [cluster] = kubeconfig.clusters.as_mut_slice() else {
        return Err(unexpected());
    };
    let [user] = kubeconfig.auth_infos.as_mut_slice() else {
        return Err(unexpected());
    };
    let [context] = kubeconfig.contexts.as_mut_slice() else {
        return Err(unexpected());
    };
    let (Some(inner), Some(context_inner)) = (cluster.cluster.as_mut(), context.context.as_mut()) else {
        return Err(unexpected());
    };
    inner.server = Some(format!("https://{host}:{port}"));
    // The certificate is valid for this name, wherever the engine is.
    inner.tls_server_name = Some("localhost".to_owned());
    for name in [
        &mut cluster.name,
        &mut user.name,
        &mut context.name,
        &mut context_inner.cluster,
    ] {
        run.clone_into(name);
    }
    context_inner.user = Some(run.to_owned());
    kubeconfig.current_context = Some(run.to_owned());
    Ok(kubeconfig)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use testcontainers::bollard::models::HostConfig;

    use super::*;

    /// A kubeconfig as k3s writes it, with shorter encoded data.
    const WRITTEN: &str = "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Y2E=
    server: https://127.0.0.1:6443
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
users:
- name: default
  user:
    client-certificate-data: Y2VydA==
    client-key-data: a2V5
";

    #[test]
    fn a_kubeconfig_leads_to_the_published_port_under_the_runs_name() {
        let kubeconfig = kubeconfig(WRITTEN, "localhost", 32768, "e2e-1").expect("k3s writes a kubeconfig");
        let cluster = kubeconfig.clusters[0].cluster.as_ref().expect("it has a cluster");
        assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:32768"));
        assert_eq!(cluster.tls_server_name.as_deref(), Some("localhost"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("Y2E="));
        assert_eq!(kubeconfig.current_context.as_deref(), Some("e2e-1"));
        let context = kubeconfig.contexts[0].context.as_ref().expect("it has a context");
        assert_eq!(
            (context.cluster.as_str(), context.user.as_deref()),
            ("e2e-1", Some("e2e-1"))
        );
        let elsewhere =
            super::kubeconfig(WRITTEN, "10.0.0.7", 6443, "e2e-1").expect("k3s writes a kubeconfig");
        let cluster = elsewhere.clusters[0].cluster.as_ref().expect("it has a cluster");
        assert_eq!(cluster.server.as_deref(), Some("https://10.0.0.7:6443"));
    }

    #[test]
    fn something_else_is_no_kubeconfig_and_its_keys_are_not_told() {
        for text in ["clusters: []", "[]"] {
            assert!(kubeconfig(text, "localhost", 1, "e2e-1").is_err(), "{text}");
        }
        let two = WRITTEN.replace("users:\n", "users:\n- name: other\n  user: {token: s3cret}\n");
        let error = kubeconfig(&two, "localhost", 1, "e2e-1").expect_err("there are two users");
        assert!(
            !error.to_string().contains("s3cret") && !error.to_string().contains("a2V5"),
            "{error}"
        );
    }

    #[test]
    fn a_k3s_container_belongs_to_its_run_and_binds_to_loopback() {
        let image = Image::of(&KubeVersion::default_of_k3s());
        let request = request(
            &image,
            "e2e-1",
            &PathBuf::from("/tmp/images.tar"),
            Reach::Loopback,
        );
        assert_eq!(request.descriptor(), image.reference());
        assert_eq!(image.reference(), "rancher/k3s:v1.36.4-k3s1");
        assert_eq!(request.container_name().as_deref(), Some("e2e-1"));
        assert_eq!(request.labels().get(RUN_LABEL).map(String::as_str), Some("e2e-1"));
        assert!(request.privileged());
        let words: Vec<String> = request.cmd().map(|word| word.to_string()).collect();
        assert_eq!(words.first().map(String::as_str), Some("server"));
        let mut host = HostConfig::default();
        request.host_config_modifier().expect("the port is bound")(&mut host);
        let bindings = host.port_bindings.expect("the port is bound");
        let binding = bindings["6443/tcp"].as_ref().expect("the port is bound");
        assert_eq!(binding[0].host_ip.as_deref(), Some("127.0.0.1"));
        assert_eq!(bindings.len(), 1);
    }

    #[test]
    fn an_engine_elsewhere_is_reached_through_the_network() {
        assert_eq!(Reach::of(None, false), Reach::Loopback);
        assert_eq!(Reach::of(Some("unix:///run/docker.sock"), false), Reach::Loopback);
        assert_eq!(Reach::of(Some("tcp://10.0.0.7:2376"), false), Reach::Network);
        assert_eq!(Reach::of(None, true), Reach::Network);
    }
}
