//! The process that is PID 1 of an embedded cluster, and the handle that starts and stops it.
//!
//! | module | runs in | what it does |
//! |---|---|---|
//! | [`handle`] | the host program | starts a supervisor, holds its lifeline, hands out clients |
//! | [`id_map`] | the host program | maps IDs into the user namespace of an unprivileged run |
//! | [`lasting`] | the host program | clusters that outlive the command that started them |
//! | [`protocol`] | both | the one message in each direction between them |
//! | [`isolate`] | the supervisor, before any thread exists | enters the namespaces and becomes PID 1 |
//! | [`init`] | PID 1 | wires API server, controllers, node and network together |
//! | [`credentials`] | PID 1 | the run's certificate authority, server certificate and token |
//!
//! Nothing of a cluster lives outside its namespaces: processes are in its PID namespace, interfaces in its
//! network namespace, and files on a tmpfs that only its mount namespace has. When PID 1 ends, however it ends,
//! the kernel removes all of it.

mod credentials;
mod handle;
mod id_map;
mod init;
mod isolate;
mod lasting;
mod protocol;

use std::ffi::OsStr;

pub use handle::{EmbeddedCluster, Options, StartError};
pub use lasting::{LastingCluster, LastingError};
pub use protocol::Access;

/// First argument of a process that is a supervisor.
const SUPERVISOR_ARGUMENT: &str = "__embedded-cluster-supervisor";

/// Turns this process into what it was executed to be, or returns at once if it is an ordinary one.
///
/// Every program that starts embedded clusters calls this first in `main`, before any thread exists:
/// a cluster consists of further copies of that same executable.
pub fn reexec() {
    match std::env::args_os().nth(1) {
        Some(argument) if argument == OsStr::new(SUPERVISOR_ARGUMENT) => isolate::main(),
        Some(argument) if argument == OsStr::new(crate::node::HELPER_ARGUMENT) => crate::node::helper_main(),
        _ => {}
    }
}
