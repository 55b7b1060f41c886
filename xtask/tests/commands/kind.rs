//! The kind provider with a scripted `kind` and `docker` on PATH. The scripts record all calls. The
//! cluster that `kind create cluster` "makes" is an embedded one, so that trials really run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixtures::cluster::Cluster;
use crate::fixtures::{finish, xtask};

/// A `docker` with a running daemon.
const DOCKER: &str = "echo 28.0.0";

/// The start of both scripts, which keeps the record. `$folder` belongs to the test.
const RECORD: &str =
    "#!/bin/sh\nfolder=$(dirname \"$0\")\necho \"$(basename \"$0\") $*\" >> \"$folder/record\"\n";

/// A `kind` that keeps its clusters as files. Their Kubernetes is the embedded cluster in
/// `$folder/kubeconfig`.
const KIND: &str = r#"
name= kubeconfig=
previous=
for argument in "$@"; do
    case $previous in --name) name=$argument ;; --kubeconfig) kubeconfig=$argument ;; esac
    previous=$argument
done
case "$1 $2" in
version*) echo "kind v0.29.0 go1.24.2 linux/amd64" ;;
"get clusters") ls "$folder/clusters" ;;
"create cluster") : > "$folder/clusters/$name"; sed "s/@NAME@/kind-$name/g" "$folder/kubeconfig" > "$kubeconfig" ;;
"get kubeconfig") sed "s/@NAME@/kind-$name/g" "$folder/kubeconfig" ;;
"load image-archive") test -s "$3" ;;
"export logs") mkdir -p "$3" && echo log > "$3/kubelet.log" ;;
"delete cluster") rm "$folder/clusters/$name" ;;
*) echo "unknown command: $*" >&2; exit 1 ;;
esac
"#;

/// A folder with the two programs, first on PATH.
struct Programs(tempfile::TempDir);

impl Programs {
    fn new(docker: &str, kind: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(folder.path().join("clusters")).expect("the folder is there");
        let programs = Self(folder);
        programs.write("docker", docker);
        programs.write("kind", kind);
        programs
    }

    fn write(&self, name: &str, script: &str) {
        let path = self.path(name);
        fs::write(&path, format!("{RECORD}{script}")).expect("the folder is there");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn record(&self) -> String {
        fs::read_to_string(self.path("record")).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = xtask(arguments);
        command.env("PATH", format!("{}:{path}", self.0.path().display()));
        command
    }

    fn xtask(&self, arguments: &[&str]) -> (Option<i32>, String) {
        finish(&mut self.command(arguments))
    }
}

/// Starts an embedded cluster in the place of kind's. It is removed with the test.
fn cluster_behind(programs: &Programs) -> Cluster {
    let cluster = Cluster::up("kind", &[]);
    let kubeconfig = fs::read_to_string(&cluster.kubeconfig).expect("cluster up wrote it");
    let named = kubeconfig.replace(&format!(": {}", cluster.name), ": '@NAME@'");
    fs::write(programs.path("kubeconfig"), named).expect("the folder is there");
    cluster.serve_names();
    cluster
}

/// Returns the scripted kind with one answer replaced.
fn kind_with(command: &str, answer: &str) -> String {
    let start = KIND
        .find(&format!("{command}) "))
        .expect("the script knows the command");
    let end = start + KIND[start..].find(";;").expect("every answer ends");
    format!("{}{command}) {answer} {}", &KIND[..start], &KIND[end..])
}

#[track_caller]
fn fails_with(docker: &str, kind: &str, expected: &str) -> Programs {
    let programs = Programs::new(docker, kind);
    let (code, text) = programs.xtask(&["e2e", "--cluster", "kind", "--scenario", "forms::standalone-rpm"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains(expected), "{expected:?} is missing: {text}");
    programs
}

#[test]
fn a_daemon_that_does_not_answer_is_told_from_a_missing_program() {
    let docker = "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock' >&2; exit 1";
    fails_with(docker, KIND, "the Docker daemon does not answer");
    let programs = Programs::new(DOCKER, KIND);
    for (missing, expected) in [
        ("kind", "kind is not on PATH"),
        ("docker", "docker is not on PATH"),
    ] {
        fs::remove_file(programs.path(missing)).expect("it was just written");
        let mut command = xtask(&["e2e", "--cluster", "kind"]);
        command.env("PATH", programs.0.path());
        let (code, text) = finish(&mut command);
        assert_eq!(code, Some(3), "{text}");
        assert!(
            text.contains(expected) && text.contains("install"),
            "{expected:?} is missing: {text}"
        );
    }
}

#[test]
fn an_old_kind_is_named_with_the_version_that_is_needed() {
    fails_with(
        DOCKER,
        &kind_with("version*", "echo kind v0.11.1 go1.16"),
        "v0.11.1 go1.16 is too old: kind v0.24",
    );
}

#[test]
fn a_refused_kind_version_is_answered_with_one_that_runs() {
    let docker = "case $1 in info) echo 1 ;; *) echo 28.0.0 ;; esac";
    let programs = Programs::new(docker, KIND);
    let pattern = "forms::standalone-rpm";
    let (code, text) = programs.xtask(&[
        "e2e",
        "--cluster",
        "kind",
        "--kube-version",
        "v1.36",
        "--scenario",
        pattern,
    ]);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("refuses to run on it: use --kube-version v1.34"),
        "{text}"
    );
    assert!(
        !programs.record().contains("kind create"),
        "{}",
        programs.record()
    );
}

#[test]
fn each_creation_failure_has_its_message_and_leaves_nothing() {
    for (answer, expected) in [
        (
            "echo 'write /var/lib: no space left on device' >&2; exit 1",
            "the disk is full",
        ),
        (
            "echo 'ERROR: failed to pull image \"kindest/node:v9\": not found' >&2; exit 1",
            "the node image is not available",
        ),
        (
            "echo 'ERROR: node(s) already exist for a cluster with the name \"x\"' >&2; exit 1",
            "exists already, perhaps from a run that was killed",
        ),
        (
            "echo 'ERROR: could not find a log line' >&2; exit 1",
            "could not find a log line",
        ),
    ] {
        let programs = fails_with(DOCKER, &kind_with("\"create cluster\"", answer), expected);
        assert!(
            programs.record().contains("kind delete cluster --name e2e-"),
            "{}",
            programs.record()
        );
    }
}

#[test]
fn a_run_interrupted_during_creation_leaves_no_cluster() {
    // As long as a node image takes to be pulled.
    let slow = ": > \"$folder/clusters/$name\"; exec sleep 600";
    let programs = Programs::new(DOCKER, &kind_with("\"create cluster\"", slow));
    let mut command = programs.command(&["e2e", "--cluster", "kind", "--scenario", "forms::standalone-rpm"]);
    let run = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command was just built");
    let started = Instant::now();
    while !programs.record().contains("kind create cluster") {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{}",
            programs.record()
        );
        std::thread::yield_now();
    }
    let interrupted = Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status();
    assert!(interrupted.expect("kill is part of every system").success());
    let output = run.wait_with_output().expect("it ends");
    assert_eq!(
        output.status.code(),
        Some(130),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let record = programs.record();
    assert!(record.contains("kind delete cluster --name e2e-"), "{record}");
    let left = fs::read_dir(programs.path("clusters"))
        .expect("it is there")
        .count();
    assert_eq!(left, 0, "{record}");
}

#[test]
fn a_cluster_to_be_used_again_must_be_there() {
    let programs = Programs::new(DOCKER, KIND);
    fs::write(programs.path("clusters/mine"), "").expect("the folder is there");
    let (code, text) = programs.xtask(&["e2e", "--cluster", "kind", "--reuse", "other"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("no kind cluster named other; there are: mine"),
        "{text}"
    );
}

#[test]
fn a_sweep_removes_old_runs_clusters_and_nobody_elses() {
    let programs = Programs::new(DOCKER, KIND);
    for name in ["e2e-20200101-000000-00001", "e2e-29990101-000000-00002", "mine"] {
        fs::write(programs.path("clusters").join(name), "").expect("the folder is there");
    }
    let (code, text) = programs.xtask(&["sweep", "--cluster", "kind", "--dry-run"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("kind cluster e2e-20200101-000000-00001") && text.contains("would be removed"),
        "{text}"
    );
    let (code, text) = programs.xtask(&["sweep", "--cluster", "kind"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 found, 1 removed, 1 too young"), "{text}");
    let left: Vec<_> = fs::read_dir(programs.path("clusters"))
        .expect("it is there")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_run_creates_loads_exports_and_deletes() {
    let programs = Programs::new(DOCKER, KIND);
    let _cluster = cluster_behind(&programs);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let report = folder.path().to_str().expect("a readable path");
    // The second run's pods may run on no node. The run fails, so that its logs are exported.
    let run = |more: &[&str]| {
        let base = [
            "e2e",
            "--cluster",
            "kind",
            "--scenario",
            "forms::standalone-rpm",
            "--report",
            report,
        ];
        programs.xtask(&[&base[..], more].concat())
    };
    let (code, text) = run(&["--kube-version", "v1.36", "--kind-config", "multi-node"]);
    assert_eq!(code, Some(0), "{text}\n{}", programs.record());
    let record = programs.record();
    for expected in [
        "multi-node.yaml",
        "--image kindest/node:v1.36.4@sha256:",
        "kind load image-archive",
        "kind delete cluster --name e2e-",
    ] {
        assert!(record.contains(expected), "{expected:?} is missing: {record}");
    }
    assert!(!record.contains("export logs"), "{record}");
    let (code, text) = run(&["--node-selector", "pool=none"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("FailedScheduling"), "{text}");
    assert!(
        Path::new(report).join("kind-logs/kubelet.log").is_file(),
        "{}",
        programs.record()
    );
    assert_eq!(
        fs::read_dir(programs.path("clusters"))
            .expect("it is there")
            .count(),
        0
    );
}
