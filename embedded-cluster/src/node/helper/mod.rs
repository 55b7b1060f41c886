//! The helper process: a small, single-threaded copy of this executable that starts containers and runs
//! commands in them on the node's behalf. It lives as long as the node does.
//!
//! Why a process of its own: libcontainer forks, which a multi-threaded async runtime must not do. Why a
//! standing one: executing this (large) binary afresh for every probe costs more than the probe. The server
//! only receives, forks and forgets; the fork does the work, answers on the shared socket and exits, which
//! orphans the process it started: PID 1 adopts it, and [`crate::node::reaper`] learns how it ends.
//!
//! Measured on two shared cores, debug build: starting a container takes 11 ms, running a command in one 2.5 ms
//! until it is executed and about 1.5 ms of CPU in all, where libcontainer's own start takes 30 ms (it joins a
//! dozen cgroups) and its exec 40 ms. Eighteen probes a second are then 3 % of a core.

pub(crate) mod cgroup;
mod exec;
mod program;
pub(crate) mod protocol;
mod start;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use nix::unistd::{ForkResult, Pid, fork};

use protocol::{Action, Failure, Reply, Request};

pub(crate) use program::DEFAULT_PATH;

/// `argv[1]` of the helper process.
pub const HELPER_ARGUMENT: &str = "__embedded-cluster-container";

/// Serves the node until it goes away. Standard input is the socket. Must be called from a freshly executed,
/// single-threaded process.
pub fn helper_main() -> ! {
    let socket = std::io::stdin();
    let code = match serve(socket.as_fd()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("container helper failed: {error}");
            1
        }
    };
    std::process::exit(code)
}

fn serve(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    // Ended workers vanish by themselves; what matters about them came over the socket.
    disposition(Signal::SIGCHLD, SigHandler::SigIgn)?;
    // Ctrl-C on the terminal is for the harness, which ends the supervisor, which ends this.
    disposition(Signal::SIGINT, SigHandler::SigIgn)?;
    let mut buffer = protocol::packet_buffer();
    while let Some((request, fds)) = protocol::receive::<Request>(socket, &mut buffer)? {
        let id = request.id;
        if let Err(error) = in_child(|| work(socket, request, fds)) {
            let outcome = Err(Failure {
                program: false,
                message: format!("fork: {error}"),
            });
            protocol::send(socket, &Reply { id, outcome }, &[])?;
        }
    }
    Ok(())
}

fn work(socket: BorrowedFd<'_>, request: Request, fds: Vec<OwnedFd>) {
    let outcome = clean_process_state()
        .map_err(node_failure)
        .and_then(|()| match request.action {
            Action::Start(start) => start::start(&start, fds),
            Action::Exec(exec) => exec::exec(&exec, fds),
        });
    // The node is gone when this fails, and everything ends with it.
    let _ = protocol::send(
        socket,
        &Reply {
            id: request.id,
            outcome,
        },
        &[],
    );
}

/// What the new process would otherwise inherit from a Rust server: ignored signals, a blocked mask.
fn clean_process_state() -> nix::Result<()> {
    for name in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGPIPE] {
        disposition(name, SigHandler::SigDfl)?;
    }
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    Ok(())
}

fn node_failure(error: impl std::fmt::Display) -> Failure {
    Failure {
        program: false,
        message: error.to_string(),
    }
}

/// Runs `body` in a fork that ends with it, and returns the fork's pid.
#[expect(unsafe_code, reason = "fork has no safe form")]
fn in_child(body: impl FnOnce()) -> nix::Result<Pid> {
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            body();
            std::process::exit(0)
        }
    }
}

#[expect(unsafe_code, reason = "signal dispositions have no safe form")]
fn disposition(name: Signal, handler: SigHandler) -> nix::Result<()> {
    // SAFETY: only SIG_IGN and SIG_DFL are installed, no handler function.
    unsafe { signal(name, handler) }.map(drop)
}
