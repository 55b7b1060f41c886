//! The stand-in images, built and really run (in a chroot; needs root, and pip or Valkey on PATH).

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use embedded_cluster::images::{Image, ImageStore};
use harness::images::stand_in::{self, Binaries};

const RPM: &str = "perconalab/valkey:9.0.3";
const HARDENED: &str = "perconalab/valkey:9.0.3-hardened";

/// Builds an image into a store of its own, or says why it cannot be built here.
fn build(reference: &str) -> Option<(tempfile::TempDir, Image)> {
    let binaries = binaries()?;
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    let start = Instant::now();
    let image = store
        .add(reference, &stand_in::build(reference, &binaries).unwrap())
        .unwrap();
    println!("{reference}: {} in {:?}", image.digest, start.elapsed());
    Some((dir, image))
}

fn binaries() -> Option<Binaries> {
    match harness::images::host_binaries() {
        Ok(binaries) => Some(binaries),
        Err(error) => {
            println!("skipped: no valkey binaries: {error}");
            None
        }
    }
}

/// Runs a program inside the image; `None`, with a reason, when this user may not.
fn chroot(root: &Path, command: &[&str]) -> Option<Output> {
    if !nix_is_root() {
        println!("skipped: chroot needs root");
        return None;
    }
    Some(
        Command::new("chroot")
            .arg(root)
            .args(command)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin")
            .output()
            .unwrap(),
    )
}

fn nix_is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn both_images_run_their_server_and_client() {
    for reference in [RPM, HARDENED] {
        let Some((_dir, image)) = build(reference) else {
            return;
        };
        for (program, expected) in [("valkey-server", "v="), ("valkey-cli", "valkey-cli")] {
            let Some(output) = chroot(&image.rootfs, &[program, "--version"]) else {
                return;
            };
            assert!(
                output.status.success() && text(&output).contains(expected),
                "{}",
                text(&output)
            );
        }
    }
}

#[test]
fn the_rpm_image_has_a_shell_and_tools_and_the_hardened_one_has_none() {
    let Some((_dir, image)) = build(RPM) else { return };
    let Some(output) = chroot(
        &image.rootfs,
        &[
            "sh",
            "-c",
            "echo b a | tr ' ' '\\n' | sort | head -n 1 | grep a && id -u",
        ],
    ) else {
        return;
    };
    assert_eq!(text(&output), "a\n0\n");

    let Some((_dir, image)) = build(HARDENED) else {
        return;
    };
    let output = chroot(&image.rootfs, &["sh", "-c", "true"]).unwrap();
    assert_eq!(output.status.code(), Some(127), "{}", text(&output));
    let bin = |folder: &str| {
        let entries = std::fs::read_dir(image.rootfs.join(folder)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert!(bin("usr/bin").is_empty() && bin("usr/sbin").is_empty());
    assert_eq!(
        bin("usr/local/bin").into_iter().collect::<Vec<_>>(),
        ["docker-entrypoint", "valkey-cli", "valkey-server"]
    );
}

/// Arguments, variables, and what the server is to be called with.
type Case = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

/// The entrypoints of both images, with the same questions: a `valkey-server` of the test's own says what it was
/// called with, by whom and under which umask, so that what is compared is the contract and nothing else.
#[test]
fn both_entrypoints_honour_the_same_contract() {
    let cases: [Case; 5] = [
        (&["/etc/valkey/valkey.conf"], &[], &["/etc/valkey/valkey.conf"]),
        (
            &["--port", "7000"],
            &[("VALKEY_PASSWORD", "")],
            &["--port", "7000"],
        ),
        (
            &["valkey-server", "x y.conf"],
            &[
                ("VALKEY_EXTRA_FLAGS", " --cluster-announce-ip  10.0.0.1\n"),
                ("VALKEY_BIND", "0.0.0.0 ::"),
                ("VALKEY_MAXMEMORY", "64mb"),
                ("VALKEY_PASSWORD", "s3cret"),
            ],
            &[
                "x y.conf",
                "--cluster-announce-ip",
                "10.0.0.1",
                "--requirepass",
                "s3cret",
                "--maxmemory",
                "64mb",
                "--bind",
                "0.0.0.0",
                "::",
            ],
        ),
        (
            &["valkey-server"],
            &[("VALKEY_EXTRA_FLAGS", "--loglevel debug")],
            &["--loglevel", "debug"],
        ),
        (
            &["a.conf"],
            &[("VALKEY_PASSWORD", "it's\\x")],
            &["a.conf", "--requirepass", "it's\\x"],
        ),
    ];
    let (Some((_dir, rpm)), Some((_other, hardened))) = (build(RPM), build(HARDENED)) else {
        return;
    };
    if !nix_is_root() {
        println!("skipped: chroot needs root");
        return;
    }
    // Both run where there is a shell, so that the server can be a script.
    let bin = rpm.rootfs.join("usr/local/bin");
    std::fs::copy(
        hardened.rootfs.join("usr/local/bin/docker-entrypoint"),
        bin.join("docker-entrypoint"),
    )
    .unwrap();
    std::fs::remove_file(bin.join("valkey-server")).unwrap();
    let script = "#!/bin/sh\nfor word in \"$@\"; do printf '%s\\n' \"$word\"; done\numask\nid -u\n";
    std::fs::write(bin.join("valkey-server"), script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("valkey-server"), executable).unwrap();
    for entrypoint in ["docker-entrypoint.sh", "docker-entrypoint"] {
        for (arguments, variables, expected) in &cases {
            // As the chart runs it, and as `docker run` does.
            for user in ["999:999", "0:0"] {
                let mut command = Command::new("chroot");
                command.arg(format!("--userspec={user}")).arg(&rpm.rootfs);
                command
                    .arg(format!("/usr/local/bin/{entrypoint}"))
                    .args(*arguments);
                command
                    .env_clear()
                    .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin")
                    .envs(variables.iter().copied());
                let output = command.output().unwrap();
                let said = text(&output);
                let expected: Vec<_> = expected.iter().chain(&["0077", "999"]).copied().collect();
                assert_eq!(
                    said.lines().collect::<Vec<_>>(),
                    expected,
                    "{entrypoint} {arguments:?} as {user}"
                );
            }
        }
    }
}

#[test]
fn the_same_inputs_are_the_same_image() {
    for reference in [RPM, HARDENED] {
        let (Some((_a, first)), Some((_b, second))) = (build(reference), build(reference)) else {
            return;
        };
        assert_eq!(first.digest, second.digest);
    }
}
