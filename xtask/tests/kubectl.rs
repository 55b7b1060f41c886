//! A person's session with kubectl on `cargo xtask cluster up`: what they type works, on real pods.
//!
//! Skipped, with the reason printed, where kubectl is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
const STATEFUL_SET: &str = "statefulset/my-valkey-percona-valkey";
const POD: &str = "my-valkey-percona-valkey-0";
/// The committed rendering, but with probes that begin at once, so that the session takes seconds.
const FAST: &str = "startupProbe.initialDelaySeconds=0,startupProbe.periodSeconds=1,\
                    readinessProbe.initialDelaySeconds=0,readinessProbe.periodSeconds=1";

/// A cluster that goes down with the test, also with one that fails.
struct Cluster {
    name: String,
    kubeconfig: PathBuf,
}

impl Cluster {
    fn up() -> Self {
        let name = format!("kubectl-test-{}", std::process::id());
        let output = Command::new(XTASK)
            .args(["cluster", "up", "--name", &name])
            .output()
            .expect("xtask runs");
        assert!(output.status.success(), "cluster up: {}", text(&output.stderr));
        Self {
            name,
            kubeconfig: PathBuf::from(text(&output.stdout).trim()),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command
    }

    /// What kubectl prints; anything but success is a panic with both outputs.
    #[track_caller]
    fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("kubectl runs");
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        assert!(
            status.success(),
            "kubectl {arguments:?}: {status}\n{}{}",
            text(&stdout),
            text(&stderr)
        );
        text(&stdout)
    }

    /// Applies a rendering with the given values.
    #[track_caller]
    fn apply_rendering(&self, values: &str) {
        let file = self.kubeconfig.with_file_name("rendering.yaml");
        let rendering = Command::new(XTASK)
            .args(["manifests", "--set", values])
            .output()
            .expect("xtask runs");
        assert!(rendering.status.success(), "{}", text(&rendering.stderr));
        std::fs::write(&file, rendering.stdout).expect("written");
        self.kubectl(&["apply", "-f", &file.display().to_string()]);
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

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_session_with_kubectl() {
    if Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        println!("skipped: kubectl is not on PATH");
        return;
    }
    let cluster = Cluster::up();
    let rendered = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/rendered/standalone-rpm.yaml");
    let watch = cluster
        .command(&["get", "pods", "-A", "-w", "--no-headers"])
        .stdout(Stdio::piped())
        .spawn();
    let mut watch = watch.expect("kubectl runs");

    let applied = cluster.kubectl(&["apply", "-f", &rendered.display().to_string()]);
    assert!(
        applied.contains("statefulset.apps/my-valkey-percona-valkey created"),
        "{applied}"
    );
    cluster.apply_rendering(FAST);
    let rolled = cluster.kubectl(&["rollout", "status", STATEFUL_SET, "--timeout=60s"]);
    assert!(rolled.contains("roll out complete"), "{rolled}");

    assert!(
        cluster
            .kubectl(&["logs", POD])
            .contains("Ready to accept connections")
    );
    assert_eq!(
        cluster.kubectl(&["exec", POD, "--", "valkey-cli", "ping"]).trim(),
        "PONG"
    );
    let described = cluster.kubectl(&["describe", "pod", POD]);
    for expected in [
        "Started container valkey",
        "Successfully assigned",
        "data-my-valkey-percona-valkey-0",
    ] {
        assert!(
            described.contains(expected),
            "describe lacks {expected:?}:\n{described}"
        );
    }

    cluster.kubectl(&["scale", STATEFUL_SET, "--replicas=2"]);
    cluster.kubectl(&["rollout", "status", STATEFUL_SET, "--timeout=60s"]);
    let uid = ["get", "pod", POD, "-o", "jsonpath={.metadata.uid}"];
    let before = cluster.kubectl(&uid);
    cluster.kubectl(&["rollout", "restart", STATEFUL_SET]);
    cluster.kubectl(&["rollout", "status", STATEFUL_SET, "--timeout=60s"]);
    assert_ne!(cluster.kubectl(&uid), before, "the restart replaced no pod");

    cluster.kubectl(&["delete", STATEFUL_SET, "--timeout=60s"]);
    cluster.kubectl(&[
        "wait",
        "--for=delete",
        "pod",
        "-l",
        "app.kubernetes.io/component=server",
        "--timeout=60s",
    ]);
    assert!(
        cluster
            .kubectl(&["get", "pvc", "-o", "name"])
            .contains("data-my-valkey-percona-valkey-1"),
        "claims stay"
    );
    watch.kill().expect("killed");
    let watched = text(&watch.wait_with_output().expect("read").stdout);
    for state in ["Pending", "ContainerCreating", "Running", "Terminating"] {
        assert!(
            watched.contains(state),
            "the watch never showed {state}:\n{watched}"
        );
    }
}
