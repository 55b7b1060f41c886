//! The installed program, as after `cargo install`: in another folder, without a checkout and
//! without cargo's variables.

use std::path::PathBuf;
use std::process::Command;

use crate::fixtures::{XTASK, finish, report_in};

/// A copy of the program, alone in its folder, which is also the current one.
struct Installed {
    folder: tempfile::TempDir,
}

impl Installed {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::copy(XTASK, folder.path().join("valkey-e2e")).expect("the program was just built");
        Self { folder }
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("valkey-e2e")
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(self.program());
        command.args(arguments).current_dir(self.folder.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO") {
                command.env_remove(name);
            }
        }
        finish(&mut command)
    }
}

#[test]
fn a_copy_says_its_own_name() {
    let (code, text) = Installed::new().run(&["e2e", "--help"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Usage: valkey-e2e e2e"), "{text}");
    assert!(!text.contains("cargo xtask"), "{text}");
}

#[test]
fn a_copy_runs_a_trial_and_names_no_commit() {
    let installed = Installed::new();
    let trial = [
        "e2e",
        "--scenario",
        "formation::forms::standalone-rpm",
        "--report",
        "report",
    ];
    let (code, text) = installed.run(&trial);
    assert_eq!(code, Some(0), "{text}");
    let report = report_in(&installed.folder.path().join("report"));
    assert_eq!(
        report["deployment"]["commit"],
        serde_json::Value::Null,
        "a copy has no checkout"
    );
}

#[test]
fn a_command_for_developers_asks_for_a_checkout() {
    for command in [
        &["manifests", "--check"][..],
        &["report", "schema", "--check"],
        &["tidy"],
    ] {
        let (code, text) = Installed::new().run(command);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("is not in a checkout of this project"), "{text}");
    }
}
