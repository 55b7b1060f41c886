//! What the tests of the command line have in common.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

pub(crate) mod cluster;
pub(crate) mod engine;
pub(crate) mod helms;

/// The command line under test.
pub(crate) const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// `xtask` with these arguments.
pub(crate) fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(XTASK);
    command.args(arguments);
    command
}

/// Runs `xtask` with these arguments, as [`finish`] does.
#[track_caller]
pub(crate) fn run(arguments: &[&str]) -> (Option<i32>, String) {
    finish(&mut xtask(arguments))
}

/// Runs the command, and returns its exit code and everything that it printed.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> (Option<i32>, String) {
    said(&command.output().expect("the command was just built"))
}

/// The exit code, and everything that was printed.
pub(crate) fn said(output: &Output) -> (Option<i32>, String) {
    let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
    (output.status.code(), printed)
}

/// Output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The report that a run left in this folder.
#[track_caller]
pub(crate) fn report_in(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("report.json")).expect("the run wrote its report");
    serde_json::from_str(&text).expect("the report is JSON")
}
