//! Running a program inside a server's container, as far as probes need it.
//!
//! The harness implements it with `pods/exec`; the tests of this crate run local processes.

use std::io;

use futures::future::BoxFuture;

/// What a program left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code.
    pub exit_code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs programs in the server container of a pod.
pub trait Exec: Send + Sync {
    /// Runs `command` in the server container of `pod`, with the container's own environment, and waits for its end.
    ///
    /// # Errors
    /// `NotFound` when the image has no such program; anything else when the attempt itself failed.
    fn exec<'a>(&'a self, pod: &'a str, command: &'a [&'a str]) -> BoxFuture<'a, io::Result<ExecOutput>>;
}
