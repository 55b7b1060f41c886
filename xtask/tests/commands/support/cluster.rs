//! A cluster of `cargo xtask cluster up`, for tests that use it as a person does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::{XTASK, text};

/// A cluster that goes down with the test, also with one that fails.
pub(crate) struct Cluster {
    /// Its name, and that of its context.
    pub(crate) name: String,
    /// How to reach it.
    pub(crate) kubeconfig: PathBuf,
}

impl Cluster {
    /// Starts a cluster; `what` is part of its name, and `more` goes to `cluster up`.
    pub(crate) fn up(what: &str, more: &[&str]) -> Self {
        let name = format!("{what}-test-{}", std::process::id());
        let output = Command::new(XTASK)
            .args(["cluster", "up", "--name", &name])
            .args(more)
            .output()
            .expect("xtask runs");
        assert!(output.status.success(), "cluster up: {}", text(&output.stderr));
        Self {
            name,
            kubeconfig: PathBuf::from(text(&output.stdout).trim()),
        }
    }

    /// What the kubeconfig says.
    pub(crate) fn config(&self) -> Kubeconfig {
        Kubeconfig::read_from(&self.kubeconfig).expect("cluster up wrote it")
    }

    /// Where the API server listens.
    pub(crate) fn server(&self) -> SocketAddr {
        let config = self.config();
        let cluster = config.clusters[0].cluster.as_ref();
        let server = cluster
            .and_then(|cluster| cluster.server.as_deref())
            .expect("a kubeconfig has a server");
        server
            .trim_start_matches("https://")
            .parse()
            .expect("it is an address")
    }

    /// A client of the API server.
    pub(crate) async fn client(&self) -> Client {
        let config = Config::from_custom_kubeconfig(self.config(), &KubeConfigOptions::default()).await;
        Client::try_from(config.expect("it leads somewhere")).expect("a client needs no server")
    }

    /// Says that there is a DNS server where other clusters have theirs: the embedded one's is no pod.
    pub(crate) fn serve_names(&self) {
        let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "kube-dns", "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.10"], "conditions": {"ready": true}}],
        }))
        .expect("a literal slice");
        let runtime =
            tokio::runtime::Runtime::new().expect("a process that cannot have threads cannot run tests");
        runtime.block_on(async {
            let slices: Api<EndpointSlice> = Api::namespaced(self.client().await, "kube-system");
            let made = slices.create(&PostParams::default(), &slice).await;
            made.expect("the cluster takes it");
        });
    }

    /// A command of `program`, for this cluster.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command
    }

    /// What the program prints; anything but success is a panic with both outputs.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self
            .command(program, arguments)
            .output()
            .expect("the program runs");
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        assert!(
            status.success(),
            "{program} {arguments:?}: {status}\n{}{}",
            text(&stdout),
            text(&stderr)
        );
        text(&stdout)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let down = Command::new(XTASK)
            .args(["cluster", "down", "--name", &self.name])
            .status();
        assert!(
            down.is_ok_and(|status| status.success()) || std::thread::panicking(),
            "cluster down failed"
        );
    }
}
