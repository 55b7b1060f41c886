//! A run on a cluster that was there before: a kubeconfig leads to it, not everything may be allowed, and what is not the
//! run's own is left alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// A cluster that goes down with the test, also with one that fails.
struct Cluster {
    name: String,
    kubeconfig: PathBuf,
}

impl Cluster {
    fn up(purpose: &str, more: &[&str]) -> Self {
        let name = format!("{purpose}-{}", std::process::id());
        let mut arguments = vec!["cluster", "up", "--name", &name];
        arguments.extend(more);
        let (code, text) = finish(Command::new(XTASK).args(&arguments));
        assert_eq!(code, Some(0), "cluster up: {text}");
        let kubeconfig = text.lines().find(|line| line.ends_with("/kubeconfig"));
        let kubeconfig = PathBuf::from(kubeconfig.expect("cluster up prints the path of the kubeconfig"));
        Self { name, kubeconfig }
    }

    /// `xtask COMMAND` on this cluster, in its context with this ending.
    fn xtask(&self, command: &str, context: &str, more: &[&str]) -> (Option<i32>, String) {
        let context = format!("{}{context}", self.name);
        let mut xtask = Command::new(XTASK);
        xtask.args([
            command,
            "--cluster",
            "kubeconfig",
            "--context",
            &context,
            "--kubeconfig",
        ]);
        finish(xtask.arg(&self.kubeconfig).args(more))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(XTASK)
            .args(["cluster", "down", "--name", &self.name])
            .status();
    }
}

#[track_caller]
fn finish(command: &mut Command) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the command was just built");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    (status.code(), text)
}

fn report_in(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("report.json")).expect("the run wrote its report");
    serde_json::from_str(&text).expect("the report is JSON")
}

#[test]
fn a_run_passes_where_it_says_it_will_take_place() {
    let cluster = Cluster::up("kubeconfig-test", &[]);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let report = folder.path().to_str().expect("a readable path");
    let pattern = "formation::forms::standalone";
    let more = [
        "--scenario",
        pattern,
        "--namespace-prefix",
        "ci-7",
        "--storage-class",
        "standard",
        "--report",
        report,
    ];
    let (code, text) = cluster.xtask("e2e", "", &more);
    assert_eq!(code, Some(0), "{text}");
    let announced = text.find("nothing but these 2 namespaces will be made");
    assert!(
        announced.is_some_and(|at| at < text.find("cluster: ").unwrap_or(0)),
        "{text}"
    );
    for expected in [
        "Kubernetes v",
        "https://127.0.0.1:",
        "\n  ci-7-forms-standalone-rpm-",
        "\"restricted\"",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing: {text}");
    }
    let report = report_in(folder.path());
    assert_eq!(report["provenance"]["provider"], "kubeconfig");
    let image = &report["provenance"]["images"][0];
    assert_eq!(image["source"], "cluster", "{report}");
    assert!(
        image["digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:"))
    );
}

#[test]
fn what_a_cluster_lacks_is_skipped_with_the_reason() {
    let cluster = Cluster::up("lacks-test", &[]);
    let more = [
        "--scenario",
        "forms::standalone-rpm",
        "--storage-class",
        "golden",
        "--report",
    ];
    let folder = tempfile::tempdir().expect("a temporary directory");
    let report = folder.path().to_str().expect("a readable path");
    let (code, text) = cluster.xtask("e2e", "", &[&more[..], &[report]].concat());
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("there is no storage class \"golden\"; the cluster has: standard"),
        "{text}"
    );
}

#[test]
fn everything_that_is_not_allowed_is_said_at_once_and_nothing_is_touched() {
    let denied = [
        "--deny",
        "create:pods/exec",
        "--deny",
        "*:secrets",
        "--deny",
        "create:namespaces",
    ];
    let cluster = Cluster::up("denied-test", &denied);
    let (code, text) = cluster.xtask("e2e", "-restricted", &["--scenario", "forms::standalone-rpm"]);
    assert_eq!(code, Some(3), "{text}");
    for missing in [
        "pods/exec in namespace vk-forms-standalone-rpm-",
        ": create, delete, get, list, patch, watch",
        "namespaces of the cluster: create",
        "nothing was touched",
    ] {
        assert!(text.contains(missing), "{missing:?} is missing: {text}");
    }
}

#[test]
fn a_sweep_removes_what_a_run_left_once_it_is_old_enough() {
    let cluster = Cluster::up("sweep-test", &[]);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let report = folder.path().to_str().expect("a readable path");
    let (code, text) = cluster.xtask(
        "e2e",
        "",
        &[
            "--scenario",
            "forms::standalone-rpm",
            "--keep",
            "--report",
            report,
        ],
    );
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("delete namespaces -l valkey-e2e/run=e2e-"),
        "{text}"
    );
    for (more, expected) in [
        (&[][..], "1 found, 0 removed, 1 too young"),
        (
            &["--older-than", "0s", "--dry-run"],
            "1 found, 0 removed, 0 too young",
        ),
        (&["--older-than", "0s", "--run", "e2e-other"], "0 found"),
        (&["--older-than", "0s"], "1 found, 1 removed"),
    ] {
        let (code, text) = cluster.xtask("sweep", "", more);
        assert_eq!(code, Some(0), "{more:?}: {text}");
        assert!(
            text.contains(expected),
            "{more:?} does not say {expected:?}: {text}"
        );
    }
}

#[test]
fn a_context_is_never_chosen_by_accident() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("config");
    std::fs::write(
        &file,
        "{contexts: [{name: prod, context: {cluster: c, user: u}}], current-context: prod}",
    )
    .expect("the folder is there");
    let file = file.to_str().expect("a readable path");
    let e2e = |more: &[&str]| finish(Command::new(XTASK).args(["e2e"]).args(more));
    for (arguments, hint) in [
        (
            &["--cluster", "kubeconfig", "--kubeconfig", file][..],
            "--context",
        ),
        (&["--context", "prod"], "--context needs --cluster kubeconfig"),
        (
            &[
                "--cluster",
                "kubeconfig",
                "--context",
                "test",
                "--kubeconfig",
                file,
            ],
            "no context \"test\"; it has: prod",
        ),
        (&["--namespace-prefix=-x"], "does not begin with a dash"),
    ] {
        let (code, text) = e2e(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(
            text.contains(hint),
            "{arguments:?} does not mention {hint:?}: {text}"
        );
    }
}
