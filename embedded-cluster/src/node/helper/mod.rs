//! The helper process: a small, single-threaded copy of this executable. It starts containers and
//! runs commands in them for the node, and lives as long as the node.
//!
//! A separate process is needed because libcontainer forks, which a multi-threaded async runtime
//! must not do. The process is permanent because executing this (large) binary for every probe
//! costs more than the probe.
//!
//! The server only receives requests and forks. The fork does the work, answers on the shared
//! socket and exits, which orphans the process it started. PID 1 adopts that process, and
//! [`crate::node::reaper`] reports its end. The server answers for a fork that is killed before its
//! answer.
//!
//! Measured on two shared cores with a debug build:
//!
//! - Starting a container takes 11 ms. libcontainer's own start takes 30 ms (it joins a dozen
//!   cgroups).
//! - Running a command takes 2.5 ms until it is executed, and about 1.5 ms of CPU in all.
//!   libcontainer's exec takes 40 ms.
//! - Eighteen probes a second take 3 % of a core.

pub(crate) mod cgroup;
mod exec;
mod program;
pub(crate) mod protocol;
mod start;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use protocol::{Action, Failure, Reply, Request};

use super::reaper::Exit;
use crate::health::describe;

pub(crate) use program::DEFAULT_PATH;

/// `argv[1]` of the helper process.
pub const HELPER_ARGUMENT: &str = "__embedded-cluster-container";

/// Serves the node until it closes the socket, which is standard input. Must be called from a
/// freshly executed, single-threaded process.
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
    // Ctrl-C on the terminal is for the harness. The harness ends the supervisor, and the
    // supervisor ends this process.
    disposition(Signal::SIGINT, SigHandler::SigIgn)?;
    let ends = ends_of_workers()?;
    let mut workers = BTreeMap::new();
    let mut buffer = protocol::packet_buffer();
    loop {
        let (asked, ended) = wait(socket, &ends)?;
        if ended {
            reap(socket, &ends, &mut workers)?;
        }
        if !asked {
            continue;
        }
        let Some((request, fds)) = protocol::receive::<Request>(socket, &mut buffer)? else {
            return Ok(());
        };
        let id = request.id;
        match in_child(|| work(socket, request, fds)) {
            Ok(worker) => {
                workers.insert(worker, id);
            }
            Err(error) => {
                let outcome = Err(node_failure(format!("fork: {error}")));
                protocol::send(socket, &Reply { id, outcome }, &[])?;
            }
        }
    }
}

/// Opens the channel that reports the ends of workers.
fn ends_of_workers() -> nix::Result<SignalFd> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&ends), None)?;
    SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Waits until there is a request, the node has closed the socket, or a worker has ended.
fn wait(socket: BorrowedFd<'_>, ends: &SignalFd) -> nix::Result<(bool, bool)> {
    let mut ready = [
        PollFd::new(socket, PollFlags::POLLIN),
        PollFd::new(ends.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut ready, PollTimeout::NONE) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok((false, false)),
        Err(error) => return Err(error),
    }
    let [asked, ended] = ready.map(|fd| fd.any() != Some(false));
    Ok((asked, ended))
}

/// Collects the workers that have ended. Answers for those that failed, since they may not have
/// answered. A second answer is ignored, since nobody waits for it.
fn reap(socket: BorrowedFd<'_>, ends: &SignalFd, workers: &mut BTreeMap<Pid, u64>) -> nix::Result<()> {
    while ends.read_signal()?.is_some() {}
    loop {
        let (worker, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(worker, 0)) => {
                workers.remove(&worker);
                continue;
            }
            Ok(WaitStatus::Exited(worker, code)) => (worker, Exit::Code(code)),
            Ok(WaitStatus::Signaled(worker, signal, _)) => (worker, Exit::Signal(signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(error) => return Err(error),
        };
        if let Some(id) = workers.remove(&worker) {
            let outcome = Err(Failure {
                lost: true,
                ..node_failure(describe(end))
            });
            protocol::send(socket, &Reply { id, outcome }, &[])?;
        }
    }
}

fn work(socket: BorrowedFd<'_>, request: Request, fds: Vec<OwnedFd>) {
    let outcome = clean_process_state()
        .map_err(node_failure)
        .and_then(|()| match request.action {
            Action::Start(start) => start::start(&start, fds),
            Action::Exec(exec) => exec::exec(&exec, fds),
        });
    // A failure means that the node is gone, and everything ends with it.
    let _ = protocol::send(
        socket,
        &Reply {
            id: request.id,
            outcome,
        },
        &[],
    );
}

/// Resets the state that the new process would inherit from a Rust server: ignored signals and a
/// blocked signal mask.
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
        lost: false,
        message: error.to_string(),
    }
}

/// Runs `body` in a fork that exits afterwards, and returns the fork's pid.
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
