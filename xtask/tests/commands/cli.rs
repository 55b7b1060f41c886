//! The command line for a user: exit codes, and messages that name the next step.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use needs::needs;
use serde_json::Value;

use crate::fixtures::{finish, run, xtask};

#[test]
fn what_cannot_be_typed_is_a_usage_error_that_names_the_nearest() {
    for (arguments, hint) in [
        (&["e2e", "--moed", "cluster"][..], "--mode"),
        (&["e2e", "--mode", "clutser"], "cluster"),
        (&["e2e", "--variant", "hardend"], "hardened"),
        (&["e2e", "--profile", "quick"], "fast"),
        (&["e2e", "--cluster", "minikube"], "embedded"),
        (&["e2e", "--jobs", "0"], "1..=64"),
        (&["e2e", "--seed", "x"], "invalid"),
        (&["e2e", "--image-source", "docker"], "archive=PATH"),
        (&["e2e", "--scenario", "fromation"], "formation"),
        (&["e2e", "--scenario", "formation::form_s"], "formation::forms"),
        (
            &["e2e", "--scenario", "nine_nodes", "--mode", "standalone"],
            "cluster-rpm",
        ),
        (&["e2"], "e2e"),
        (&["cluster", "up", "--name", "Über"], "lower-case letters"),
    ] {
        let (code, text) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(
            text.contains(hint),
            "{arguments:?} does not mention {hint:?}: {text}"
        );
    }
}

#[test]
fn what_would_run_can_be_listed() {
    let (code, text) = run(&[
        "e2e",
        "--list",
        "--scenario",
        "formation::forms",
        "--variant",
        "rpm",
    ]);
    assert_eq!(code, Some(0));
    assert_eq!(
        text,
        "formation::forms::standalone-rpm\nformation::forms::cluster-rpm\n"
    );
}

#[test]
fn a_cluster_that_does_not_run_is_named() {
    let cache = tempfile::tempdir().expect("a temporary directory");
    for command in ["kubeconfig", "down"] {
        let mut command = xtask(&["cluster", command, "--name", "nobody"]);
        let (code, text) = finish(command.env("XDG_CACHE_HOME", cache.path()));
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("no cluster \"nobody\" is running"), "{text}");
    }
}

/// Namespaces are counted per user namespace. A user namespace that allows none thus acts like a
/// machine that allows none.
#[needs(user_namespaces)]
#[test]
fn a_machine_without_namespaces_is_told_three_ways_out() {
    let script = "echo 0 > /proc/sys/user/max_net_namespaces && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        script,
        env!("CARGO_BIN_EXE_valkey-e2e"),
    ]);
    command.args([
        "e2e",
        "--scenario",
        "formation::forms::standalone-rpm",
        "--report",
    ]);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (code, text) = finish(command.arg(folder.path()));
    assert_eq!(code, Some(3), "{text}");
    for way in ["run as root", "allow user namespaces", "virtual machine"] {
        assert!(text.contains(way), "{way:?} is missing: {text}");
    }
}

#[test]
fn a_run_that_passes_exits_0_and_its_report_lists_its_trials() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut command = xtask(&[
        "e2e",
        "--scenario",
        "formation::forms::standalone-rpm",
        "--seed",
        "7",
        "--report",
    ]);
    let (code, text) = finish(command.arg(folder.path()));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("QUALIFIED: 1 trial passed"), "{text}");
    let report = report_in(folder.path());
    assert_eq!(report["verdict"], "qualified");
    assert_eq!(report["seed"], 7);
    assert_eq!(report["trials"][0]["name"], "formation::forms::standalone-rpm");
    assert_eq!(report["trials"][0]["outcome"]["status"], "passed");
    assert_eq!(report["trials"][0]["steps"][0]["name"], "install");
    let images = report["provenance"]["images"]
        .as_array()
        .expect("the report names its images");
    assert!(images.iter().all(|image| {
        image["digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:"))
    }));
}

#[test]
fn an_interrupted_run_leaves_no_supervisor_and_writes_a_report() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut command = xtask(&["e2e", "--scenario", "nine_nodes", "--report"]);
    let mut run = command
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command was just built");
    let stdout = BufReader::new(run.stdout.take().expect("standard output is piped"));
    let mut lines = stdout.lines().map_while(Result::ok);
    let ready = lines.find(|line| line.starts_with("cluster: "));
    assert!(ready.is_some(), "the run ended before its cluster was ready");
    let supervisors = children_of(run.id());
    assert!(!supervisors.is_empty(), "a run has a supervisor");
    let killed = Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status();
    assert!(killed.expect("kill is everywhere").success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(
        run.wait().expect("a child can be waited for").code(),
        Some(130),
        "{rest:?}"
    );
    let report = report_in(folder.path());
    assert_eq!(
        (&report["verdict"], &report["interrupted"]),
        (&"inconclusive".into(), &true.into())
    );
    for supervisor in &supervisors {
        let gone = !std::path::Path::new("/proc").join(supervisor).exists();
        assert!(gone, "supervisor {supervisor} outlived the run");
    }
}

/// Lists the processes that any thread of this process has started.
fn children_of(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running process has threads");
    let lists = threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[track_caller]
fn report_in(folder: &std::path::Path) -> Value {
    let text = std::fs::read_to_string(folder.join("report.json")).expect("the run wrote its report");
    serde_json::from_str(&text).expect("the report is JSON")
}
