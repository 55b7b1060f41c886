//! The stand-ins under a real container engine. `docker load` accepts the store's archive, and the
//! server runs with the chart's settings. A store reads back the output of `docker save`. Ignored
//! without Docker.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use embedded_cluster::images::ImageStore;
use harness::images::stand_in;
use needs::needs;

/// Deadline for a container's server to serve. An engine on a busy machine takes seconds.
const SERVING: Duration = Duration::from_secs(60);

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().unwrap()
}

fn ok(output: &Output) -> String {
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    said
}

/// Containers and images that are removed when the test ends, even if it fails.
struct CleanUp {
    containers: Vec<String>,
    images: Vec<String>,
}

impl Drop for CleanUp {
    fn drop(&mut self) {
        for container in &self.containers {
            docker(&["rm", "--force", "--volumes", container]);
        }
        for image in &self.images {
            docker(&["rmi", "--force", image]);
        }
    }
}

#[needs(docker, valkey)]
#[test]
fn docker_loads_runs_and_saves_the_stand_ins() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path().join("store")).unwrap();
    let binaries = harness::images::host_binaries().unwrap();
    // Unique names, so that the test never replaces an existing image.
    let own = uuid::Uuid::new_v4();
    let names = ["rpm", "hardened"].map(|variant| format!("valkey-e2e-test/{own}:{variant}"));
    let [rpm, hardened] = &names;
    let mut clean_up = CleanUp {
        images: names.to_vec(),
        containers: Vec::new(),
    };
    for (name, reference) in [
        (rpm, "perconalab/valkey:1"),
        (hardened, "perconalab/valkey:1-hardened"),
    ] {
        store
            .add(name, &stand_in::build(reference, &binaries).unwrap())
            .unwrap();
    }
    let archive = dir.path().join("stand-ins.tar");
    store.export_archive(&[rpm, hardened], &archive).unwrap();

    ok(&docker(&["load", "--input", archive.to_str().unwrap()]));
    // Under the chart's settings, and (rpm) as root, which is the default of `docker run`.
    let strict = [
        "--user=999:999",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
    ];
    serves(hardened, &strict, &mut clean_up);
    serves(rpm, &strict, &mut clean_up);
    serves(rpm, &[], &mut clean_up);
    serves(hardened, &[], &mut clean_up);
    let shell = docker(&[
        "run",
        "--rm",
        "--network=none",
        "--entrypoint=sh",
        hardened,
        "-c",
        "true",
    ]);
    assert_eq!(shell.status.code(), Some(127), "the hardened image has a shell");

    let saved = dir.path().join("saved.tar");
    ok(&docker(&[
        "save",
        "--output",
        saved.to_str().unwrap(),
        rpm,
        hardened,
    ]));
    let other = ImageStore::open(dir.path().join("other")).unwrap();
    assert_eq!(other.add_archive(&saved).unwrap().len(), 2);
    let back = other.get(rpm).unwrap().unwrap();
    let before = store.get(rpm).unwrap().unwrap();
    assert_eq!(back.config.rootfs().diff_ids(), before.config.rootfs().diff_ids());
    assert_eq!(
        back.config.config().as_ref().unwrap().entrypoint(),
        before.config.config().as_ref().unwrap().entrypoint()
    );
}

/// Starts a server the way the chart does, and asks its own client for an answer.
fn serves(image: &str, options: &[&str], clean_up: &mut CleanUp) {
    let mut run = vec!["run", "--detach", "--network=none", "--tmpfs=/data:mode=1777"];
    run.extend(options);
    run.extend([
        "--env=VALKEY_PASSWORD=s3cret",
        "--env=VALKEY_EXTRA_FLAGS= --maxmemory-policy allkeys-lru",
    ]);
    run.extend([image, "/etc/valkey/valkey.conf"]);
    let container = ok(&docker(&run)).trim().to_owned();
    clean_up.containers.push(container.clone());
    wait_for_log(&container, "Ready to accept connections");
    let ask = |arguments: &[&str]| {
        let exec = [
            "exec",
            "--env=REDISCLI_AUTH=s3cret",
            &container,
            "valkey-cli",
            "-e",
        ];
        ok(&docker(&[&exec, arguments].concat()))
    };
    assert_eq!(ask(&["ping"]).trim(), "PONG");
    assert!(ask(&["config", "get", "maxmemory-policy"]).contains("allkeys-lru"));
    let refused = docker(&["exec", &container, "valkey-cli", "-e", "ping"]);
    assert!(!refused.status.success(), "{image} serves without the password");
    let status = std::fs::read_to_string(format!(
        "/proc/{}/status",
        ok(&docker(&["inspect", "--format={{.State.Pid}}", &container])).trim()
    ));
    // The uid stays unchecked if the engine's processes are not visible.
    if let Ok(status) = status {
        let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert!(
            uid.split_whitespace().skip(1).all(|id| id == "999"),
            "{image} {options:?}: {uid}"
        );
    }
}

/// Follows a container's log until it contains `expected`.
fn wait_for_log(container: &str, expected: &str) {
    let mut logs = Command::new("docker")
        .args(["logs", "--follow", container])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(logs.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    let wanted = expected.to_owned();
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        for line in lines.map_while(Result::ok) {
            let found = line.contains(&wanted);
            seen.push(line);
            if found {
                break;
            }
        }
        // The receiver is gone if this took too long.
        let _ = sender.send(seen);
    });
    let seen = receiver.recv_timeout(SERVING);
    logs.kill().unwrap();
    logs.wait().unwrap();
    let seen = seen.unwrap_or_else(|_| panic!("{container} did not say `{expected}` within {SERVING:?}"));
    assert!(
        seen.last().is_some_and(|line| line.contains(expected)),
        "{container} ended:\n{}",
        seen.join("\n")
    );
}
