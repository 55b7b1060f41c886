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
        .add(reference, stand_in::build(reference, &binaries).unwrap())
        .unwrap();
    println!("{reference}: {} in {:?}", image.digest, start.elapsed());
    Some((dir, image))
}

fn binaries() -> Option<Binaries> {
    match stand_in::host_binaries(&harness::images::cache_dir().unwrap()) {
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
