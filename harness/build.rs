//! Compiles the entrypoint of the hardened stand-in image (`src/images/stand_in/entrypoint.rs`): a program of its
//! own, which the harness carries and puts into an image.
//!
//! It is linked statically where the C library allows it, so that it runs in an image without libraries; where
//! only a dynamic link succeeds, its libraries are added to the image like those of any other program.

use std::env;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "src/images/stand_in/entrypoint.rs";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("entrypoint");
    let mut failures = String::new();
    for link in ["target-feature=+crt-static", "target-feature=-crt-static"] {
        match compile(&out, link) {
            Ok(()) => return,
            Err(error) => failures.push_str(&error),
        }
    }
    panic!("the stand-in entrypoint does not compile:\n{failures}");
}

fn compile(out: &Path, link: &str) -> Result<(), String> {
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    rustc.args([
        SOURCE,
        "--edition=2024",
        "--crate-type=bin",
        "--crate-name=entrypoint",
    ]);
    rustc.args([
        "-C",
        "opt-level=s",
        "-C",
        "panic=abort",
        "-C",
        "strip=symbols",
        "-C",
        link,
    ]);
    rustc
        .arg("--target")
        .arg(env::var_os("TARGET").expect("cargo sets TARGET"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    // The flags of the workspace are for the harness: coverage or sanitizers have no place in an image.
    rustc
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = rustc
        .arg("-o")
        .arg(out)
        .output()
        .map_err(|error| format!("rustc does not start: {error}\n"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
