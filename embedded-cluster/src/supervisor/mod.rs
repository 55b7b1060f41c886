//! The process that is PID 1 of an embedded cluster, and the handle that starts and stops it.
//!
//! | module | runs in | what it does |
//! |---|---|---|
//! | [`handle`] | the host program | starts a supervisor, holds its lifeline, hands out clients |
//! | [`watch`] | the host program | notices when a cluster has died |
//! | [`id_map`] | the host program | maps IDs into the user namespace of an unprivileged run |
//! | [`lasting`] | the host program | manages clusters that outlive the command that started them |
//! | [`pidfd`] | the host program | waits for processes that are not its children |
//! | [`protocol`] | both | defines the messages in each direction between them |
//! | [`files`] | both | raises the limit of open files |
//! | [`isolate`] | the supervisor, before any thread exists | enters the namespaces and becomes PID 1 |
//! | [`init`] | PID 1 | wires API server, controllers, node and network together |
//! | [`credentials`] | PID 1 | generates the run's certificate authority, server certificate and token |
//!
//! All parts of a cluster live in its namespaces. Processes are in its PID namespace and interfaces
//! in its network namespace. Files are on a tmpfs in its mount namespace. When PID 1 ends for any
//! reason, the kernel removes everything.

mod credentials;
mod files;
mod handle;
mod id_map;
mod init;
mod isolate;
mod lasting;
mod pidfd;
mod protocol;
mod watch;

use std::ffi::OsStr;

pub use crate::health::Death;
pub use handle::{EmbeddedCluster, Options, StartError};
pub use lasting::{LastingCluster, LastingError};
pub use protocol::Access;
pub use watch::Vital;

/// First argument of a process that is a supervisor.
const SUPERVISOR_ARGUMENT: &str = "__embedded-cluster-supervisor";

/// Runs this process in the role for which it was executed. Returns at once if it has none.
///
/// Every program that starts embedded clusters calls this first in `main`, before any thread
/// exists. A cluster consists of further copies of that executable.
pub fn reexec() {
    match std::env::args_os().nth(1) {
        Some(argument) if argument == OsStr::new(SUPERVISOR_ARGUMENT) => isolate::main(),
        Some(argument) if argument == OsStr::new(crate::node::HELPER_ARGUMENT) => crate::node::helper_main(),
        _ => {}
    }
}
