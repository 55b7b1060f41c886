//! A person's session with kubectl on `cargo xtask cluster up`: what they type works, on real pods.
//!
//! Skipped, with the reason printed, where kubectl is missing.

use std::path::Path;
use std::process::{Command, Stdio};

#[path = "support/cluster.rs"]
mod cluster;
mod support;

use cluster::Cluster;
use support::{XTASK, is_there, text};

const STATEFUL_SET: &str = "statefulset/my-valkey-percona-valkey";
const POD: &str = "my-valkey-percona-valkey-0";
/// The committed rendering, but with probes that begin at once, so that the session takes seconds.
const FAST: &str = "startupProbe.initialDelaySeconds=0,startupProbe.periodSeconds=1,\
                    readinessProbe.initialDelaySeconds=0,readinessProbe.periodSeconds=1";

/// Applies a rendering with the given values.
#[track_caller]
fn apply_rendering(cluster: &Cluster, values: &str) {
    let file = cluster.kubeconfig.with_file_name("rendering.yaml");
    let rendering = Command::new(XTASK)
        .args(["manifests", "--set", values])
        .output()
        .expect("xtask runs");
    assert!(rendering.status.success(), "{}", text(&rendering.stderr));
    std::fs::write(&file, rendering.stdout).expect("written");
    cluster.run("kubectl", &["apply", "-f", &file.display().to_string()]);
}

#[test]
fn a_session_with_kubectl() {
    if !is_there("kubectl", &["version", "--client"]) {
        return;
    }
    let cluster = Cluster::up("kubectl");
    let kubectl = |arguments: &[&str]| cluster.run("kubectl", arguments);
    let rendered = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/rendered/standalone-rpm.yaml");
    let watch = cluster
        .command("kubectl", &["get", "pods", "-A", "-w", "--no-headers"])
        .stdout(Stdio::piped())
        .spawn();
    let mut watch = watch.expect("kubectl runs");

    let applied = kubectl(&["apply", "-f", &rendered.display().to_string()]);
    assert!(
        applied.contains("statefulset.apps/my-valkey-percona-valkey created"),
        "{applied}"
    );
    apply_rendering(&cluster, FAST);
    let rolled = kubectl(&["rollout", "status", STATEFUL_SET, "--timeout=60s"]);
    assert!(rolled.contains("roll out complete"), "{rolled}");

    assert!(kubectl(&["logs", POD]).contains("Ready to accept connections"));
    assert_eq!(kubectl(&["exec", POD, "--", "valkey-cli", "ping"]).trim(), "PONG");
    let described = kubectl(&["describe", "pod", POD]);
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

    kubectl(&["scale", STATEFUL_SET, "--replicas=2"]);
    kubectl(&["rollout", "status", STATEFUL_SET, "--timeout=60s"]);
    let uid = ["get", "pod", POD, "-o", "jsonpath={.metadata.uid}"];
    let before = kubectl(&uid);
    kubectl(&["rollout", "restart", STATEFUL_SET]);
    kubectl(&["rollout", "status", STATEFUL_SET, "--timeout=60s"]);
    assert_ne!(kubectl(&uid), before, "the restart replaced no pod");

    kubectl(&["delete", STATEFUL_SET, "--timeout=60s"]);
    kubectl(&[
        "wait",
        "--for=delete",
        "pod",
        "-l",
        "app.kubernetes.io/component=server",
        "--timeout=60s",
    ]);
    assert!(
        kubectl(&["get", "pvc", "-o", "name"]).contains("data-my-valkey-percona-valkey-1"),
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
