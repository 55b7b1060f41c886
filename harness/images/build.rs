//! Compiles the entrypoint of the hardened stand-in image (`src/stand_in/entrypoint.rs`). The
//! harness embeds the program and puts it into an image.
//!
//! The program is linked statically where the C library allows it, and runs without libraries.
//! After a dynamic link, its libraries are added to the image, as for any other program.

use std::env;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "src/stand_in/entrypoint.rs";

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
    // The workspace's flags are for the harness: an image needs no coverage and no sanitizers.
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
