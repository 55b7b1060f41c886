//! What the tests of the command line have in common.

use std::process::Command;

/// The command line under test.
pub(crate) const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// Output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether `program` is on PATH; a line says that the test is skipped where it is not.
pub(crate) fn is_there(program: &str, version: &[&str]) -> bool {
    let found = Command::new(program).args(version).output().is_ok();
    if !found {
        println!("skipped: {program} is not on PATH");
    }
    found
}
