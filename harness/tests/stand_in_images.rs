//! The stand-in images, built and run in a chroot (needs root, and pip or Valkey on PATH).

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use embedded_cluster::images::{Image, ImageStore};
use harness::images::stand_in::{self, Binaries};
use needs::needs;

const RPM: &str = "perconalab/valkey:9.0.3";
const HARDENED: &str = "perconalab/valkey:9.0.3-hardened";

/// Builds an image into a separate store.
fn build(reference: &str) -> (tempfile::TempDir, Image) {
    let binaries = binaries();
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    let start = Instant::now();
    let image = store
        .add(reference, &stand_in::build(reference, &binaries).unwrap())
        .unwrap();
    println!("{reference}: {} in {:?}", image.digest, start.elapsed());
    (dir, image)
}

fn binaries() -> Binaries {
    harness::images::host_binaries().expect("this test needs Valkey's programs")
}

/// Runs a program inside the image. A test that calls this has `#[needs(root)]`.
fn chroot(root: &Path, command: &[&str]) -> Output {
    Command::new("chroot")
        .arg(root)
        .args(command)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[needs(valkey, root)]
#[test]
fn both_images_run_their_server_and_client() {
    for reference in [RPM, HARDENED] {
        let (_dir, image) = build(reference);
        for (program, expected) in [("valkey-server", "v="), ("valkey-cli", "valkey-cli")] {
            let output = chroot(&image.rootfs, &[program, "--version"]);
            assert!(
                output.status.success() && text(&output).contains(expected),
                "{}",
                text(&output)
            );
        }
    }
}

#[needs(valkey, root)]
#[test]
fn the_rpm_image_has_a_shell_and_the_hardened_one_none() {
    let (_dir, image) = build(RPM);
    let output = chroot(
        &image.rootfs,
        &[
            "sh",
            "-c",
            "echo b a | tr ' ' '\\n' | sort | head -n 1 | grep a && id -u",
        ],
    );
    assert_eq!(text(&output), "a\n0\n");

    let (_dir, image) = build(HARDENED);
    let output = chroot(&image.rootfs, &["sh", "-c", "true"]);
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

/// Arguments, variables, and the expected arguments of the server.
type Case = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

/// Tests the entrypoints of both images with the same cases. A fake `valkey-server` prints its
/// arguments, user and umask. So the test compares only the contract.
#[needs(valkey, root)]
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
    let ((_dir, rpm), (_other, hardened)) = (build(RPM), build(HARDENED));
    // Both run in the image with a shell, so that the server can be a script.
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
            // The users of the chart and of `docker run`.
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

#[needs(valkey)]
#[test]
fn the_same_inputs_are_the_same_image() {
    for reference in [RPM, HARDENED] {
        let ((_a, first), (_b, second)) = (build(reference), build(reference));
        assert_eq!(first.digest, second.digest);
    }
}
