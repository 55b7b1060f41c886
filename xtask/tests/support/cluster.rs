//! A cluster of `cargo xtask cluster up`, for tests that use it as a person does.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::{XTASK, text};

/// A cluster that goes down with the test, also with one that fails.
pub(crate) struct Cluster {
    name: String,
    /// How to reach it.
    pub(crate) kubeconfig: PathBuf,
}

impl Cluster {
    /// Starts a cluster; `what` is part of its name, and `more` goes to `cluster up`.
    pub(crate) fn up(what: &str, more: &[&str]) -> Self {
        let name = format!("{what}-test-{}", std::process::id());
        let output = Command::new(XTASK)
            .args(["cluster", "up", "--name", &name])
            .args(more)
            .output()
            .expect("xtask runs");
        assert!(output.status.success(), "cluster up: {}", text(&output.stderr));
        Self {
            name,
            kubeconfig: PathBuf::from(text(&output.stdout).trim()),
        }
    }

    /// A command of `program`, for this cluster.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command
    }

    /// What the program prints; anything but success is a panic with both outputs.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self
            .command(program, arguments)
            .output()
            .expect("the program runs");
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        assert!(
            status.success(),
            "{program} {arguments:?}: {status}\n{}{}",
            text(&stdout),
            text(&stderr)
        );
        text(&stdout)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let down = Command::new(XTASK)
            .args(["cluster", "down", "--name", &self.name])
            .status();
        assert!(
            down.is_ok_and(|status| status.success()) || std::thread::panicking(),
            "cluster down failed"
        );
    }
}
