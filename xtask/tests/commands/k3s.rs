//! The k3s provider with a scripted container engine on a separate socket. The script records all
//! requests. The Kubernetes in its "container" is an embedded one, so that trials really run.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::fixtures::cluster::Cluster;
use crate::fixtures::engine::{Engine, Script};
use crate::fixtures::{finish, xtask};

/// Returns a run on k3s with the engine at `docker_host`.
fn on_k3s(docker_host: &str) -> Command {
    let mut command = xtask(&["e2e", "--cluster", "k3s", "--image-source", "stand-in"]);
    command.args(["--scenario", "forms::standalone-rpm"]);
    command.env("DOCKER_HOST", docker_host);
    command
}

/// Returns the result of a run, and its duration.
fn e2e(docker_host: &str, more: &[&str]) -> (Option<i32>, String, Duration) {
    let started = Instant::now();
    let (code, text) = finish(on_k3s(docker_host).args(more));
    (code, text, started.elapsed())
}

#[test]
fn an_engine_that_is_not_there_is_told_of_within_seconds() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let socket = format!("unix://{}", folder.path().join("docker.sock").display());
    for docker_host in [socket.as_str(), "tcp://127.0.0.1:1"] {
        let (code, text, took) = e2e(docker_host, &[]);
        assert_eq!(code, Some(3), "{text}");
        assert!(
            text.contains("no Docker engine answers (is it installed and running"),
            "{text}"
        );
        assert!(took < Duration::from_secs(8), "{took:?}");
    }
}

#[test]
fn each_failure_has_its_own_message_and_leaves_no_container() {
    let cases = [
        (
            Script {
                pull: Err(
                    "Get \"https://registry.example/v2/\": dial tcp: lookup registry.example: no such host",
                ),
                ..Script::default()
            },
            "the image rancher/k3s:v1.36.4-k3s1 is missing and cannot be pulled: ",
        ),
        (
            Script {
                pull: Err("write /var/lib/docker/tmp: no space left on device"),
                ..Script::default()
            },
            "the disk is full",
        ),
        (
            Script {
                cgroup: "1",
                ..Script::default()
            },
            "refuses to run on it: start with --kube-version v1.34",
        ),
        (
            Script {
                running: false,
                ..Script::default()
            },
            "it ended; its last output was:\nlevel=fatal msg=\"no memory cgroup\"",
        ),
    ];
    for (script, expected) in cases {
        let engine = Engine::start(script);
        let (code, text, took) = e2e(&engine.docker_host(), &[]);
        assert_eq!(code, Some(3), "{text}");
        assert!(text.contains(expected), "{expected:?} is missing: {text}");
        assert!(took < Duration::from_secs(60), "{took:?}");
        assert!(!engine.has_container(), "{:#?}", engine.asked());
    }
}

#[test]
fn a_run_interrupted_during_creation_leaves_no_container() {
    let engine = Engine::start(Script {
        copies: false,
        ..Script::default()
    });
    let mut run = on_k3s(&engine.docker_host())
        .spawn()
        .expect("the command was just built");
    let started = Instant::now();
    while !engine.asked().iter().any(|what| what.starts_with("PUT")) {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{:#?}",
            engine.asked()
        );
        std::thread::yield_now();
    }
    assert!(engine.has_container());
    let interrupted = Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status();
    assert!(interrupted.expect("kill is part of every system").success());
    let ended = run.wait().expect("it is our child");
    assert_eq!(ended.code(), Some(130), "{:#?}", engine.asked());
    assert!(!engine.has_container(), "{:#?}", engine.asked());
}

#[test]
fn the_version_picks_the_image() {
    for (version, image) in [
        ("v1.35", "rancher/k3s:v1.35.8-k3s1"),
        ("v1.33.2", "rancher/k3s:v1.33.2-k3s1"),
    ] {
        let script = Script {
            pull: Err("manifest unknown"),
            ..Script::default()
        };
        let engine = Engine::start(script);
        let (code, text, _) = e2e(&engine.docker_host(), &["--kube-version", version]);
        assert_eq!(code, Some(3), "{text}");
        assert!(text.contains(image), "{image} is missing: {text}");
    }
    let (code, text, _) = e2e("tcp://127.0.0.1:1", &["--kube-version", "v1.20"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("known versions are v1.34, v1.35, v1.36, v1.37"),
        "{text}"
    );
}

#[test]
fn a_sweep_removes_old_runs_containers_and_leaves_young_ones() {
    let engine = Engine::start(Script {
        left: &["e2e-20200101-000000-00001", "e2e-29990101-000000-00002"],
        ..Script::default()
    });
    let mut sweep = xtask(&["sweep", "--cluster", "k3s"]);
    let (code, text) = finish(sweep.env("DOCKER_HOST", engine.docker_host()));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("k3s container e2e-20200101-000000-00001"), "{text}");
    assert!(text.contains("2 found, 1 removed, 1 too young"), "{text}");
    let removed: Vec<String> = engine
        .asked()
        .into_iter()
        .filter(|what| what.starts_with("DELETE"))
        .collect();
    assert!(
        removed.len() == 1 && removed[0].contains("/containers/e2e-20200101-000000-00001"),
        "{removed:?}"
    );
}

#[test]
fn a_run_starts_imports_runs_and_removes() {
    let cluster = Cluster::up("k3s", &[]);
    cluster.serve_names();
    let engine = Engine::start(Script {
        kubeconfig: fs::read_to_string(&cluster.kubeconfig).expect("cluster up wrote it"),
        api_port: cluster.server().port(),
        ..Script::default()
    });
    let folder = tempfile::tempdir().expect("a temporary directory");
    let report = folder.path().to_str().expect("a readable path");
    let (code, text, _) = e2e(&engine.docker_host(), &["--report", report]);
    assert_eq!(code, Some(0), "{text}\n{:#?}", engine.asked());
    let told = "pulling rancher/k3s:v1.36.4-k3s1";
    assert!(text.contains(told), "{told:?} is missing: {text}");
    let asked = engine.asked();
    let order = [
        "POST /images/create",
        "POST /containers/create",
        "PUT /containers/",
        "start",
        "cat /etc/rancher/k3s/k3s.yaml",
        "--namespace k8s.io images import /valkey-e2e/images.tar",
        "DELETE /containers/",
    ];
    let mut rest = asked.iter();
    for step in order {
        assert!(
            rest.any(|what| what.contains(step)),
            "{step:?} is missing or late: {asked:#?}"
        );
    }
    // From within a container of the engine, this machine's loopback is not the engine's.
    let published = if Path::new("/.dockerenv").exists() {
        "\"PublishAllPorts\":true"
    } else {
        "\"HostIp\":\"127.0.0.1\""
    };
    for expected in [
        "\"Privileged\":true",
        published,
        "valkey-e2e/run",
        "--disable=traefik",
    ] {
        assert!(
            asked.iter().any(|what| what.contains(expected)),
            "{expected:?} is missing: {asked:#?}"
        );
    }
    assert!(!engine.has_container());

    // A failed run leaves the cluster's log. Its node selector matches no node.
    let (code, text, _) = e2e(
        &engine.docker_host(),
        &["--report", report, "--node-selector", "pool=none"],
    );
    assert_eq!(code, Some(1), "{text}");
    let log = fs::read_to_string(Path::new(report).join("k3s.log")).expect("it was saved");
    assert!(log.contains("no memory cgroup"), "{log}");
    assert!(!engine.has_container());

    // A run that keeps its cluster prints how to remove it.
    let (code, text, _) = e2e(&engine.docker_host(), &["--report", report, "--keep"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(engine.has_container());
    assert!(text.contains("docker rm --force --volumes e2e-"), "{text}");
}
