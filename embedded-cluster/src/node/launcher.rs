//! The node's side of the helper process ([`crate::node::helper`]): starts containers, and commands
//! in them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use tokio::sync::oneshot;

use super::helper::HELPER_ARGUMENT;
use super::helper::protocol::{self, Action, ExecInContainer, Failure, Reply, Request, StartContainer};
use super::reaper::{Exit, Reaper};
use crate::health::{self, Death, Health};

/// The reasons why a process did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The program cannot be executed; the text is runc's.
    #[error("{0}")]
    Program(String),
    /// The request was valid but the node could not fulfil it.
    #[error("{0}")]
    Node(String),
    /// The helper's worker was killed before it finished; the text says by what.
    #[error("worker of the container helper {0}")]
    Lost(String),
    /// The helper process is gone, or cannot be reached.
    #[error("reach the container helper")]
    Helper(#[source] io::Error),
}

/// A handle on the helper process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Launcher {
    socket: Arc<OwnedFd>,
    next: AtomicU64,
    waiting: Arc<Mutex<Waiting>>,
    health: Health,
}

type Waiting = BTreeMap<u64, oneshot::Sender<Result<i32, Failure>>>;

impl Launcher {
    /// Starts the helper from `executable`, which must call [`super::helper_main`] when asked to.
    /// The end of the helper ends the cluster. Needs a running tokio runtime.
    pub(crate) fn start(executable: &Path, reaper: &Reaper, health: Health) -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let mut command = Command::new(executable);
        command.arg(HELPER_ARGUMENT).stdin(Stdio::from(theirs));
        let helper = reaper.spawn(command)?;
        let watched = health.clone();
        tokio::spawn(async move {
            let exit = helper.wait().await;
            if exit != Exit::LOST {
                watched.report(Death::of("container helper", health::describe(exit)));
            }
        });
        let socket = Arc::new(ours);
        let waiting = Arc::new(Mutex::new(Waiting::new()));
        let (reader, answers) = (Arc::clone(&socket), Arc::clone(&waiting));
        std::thread::Builder::new()
            .name("container-helper".to_owned())
            .spawn(move || dispatch(reader.as_fd(), &answers))?;
        Ok(Self {
            socket,
            next: AtomicU64::new(1),
            waiting,
            health,
        })
    }

    /// Creates and starts a container; returns the pid of its init process.
    pub(crate) async fn start_container(
        &self,
        start: StartContainer,
        stdio: Stdio3,
    ) -> Result<i32, LaunchError> {
        // With a small limit, the container and not the node may lack memory.
        let limited = start.memory_limit.is_some();
        let started = self.request(Action::Start(start), stdio).await;
        if let Err(error) = &started
            && !limited
        {
            self.judge(error, "starting a container");
        }
        started
    }

    /// Starts a command in a container; returns its pid.
    pub(crate) async fn exec(&self, exec: ExecInContainer, stdio: Stdio3) -> Result<i32, LaunchError> {
        let started = self.request(Action::Exec(exec), stdio).await;
        if let Err(error) = &started {
            self.judge(error, "running a command in a container");
        }
        started
    }

    /// Reports errors of the node, but not those of a container.
    fn judge(&self, error: &LaunchError, doing: &str) {
        match error {
            LaunchError::Lost(how) => self.health.report(Death::of(
                "container helper",
                format!("lost a worker that was {doing}: it {how}"),
            )),
            // The kernel refuses an `execve` when it lacks processes or memory. A missing program
            // is an error of the user.
            LaunchError::Program(text) | LaunchError::Node(text) => self.health.notice(doing, text),
            LaunchError::Helper(_) => self.health.notice(doing, &super::chain(error)),
        }
    }

    async fn request(&self, action: Action, stdio: Stdio3) -> Result<i32, LaunchError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, sender);
        let fds = [stdio.stdin.as_fd(), stdio.stdout.as_fd(), stdio.stderr.as_fd()];
        let sent = protocol::send(self.socket.as_fd(), &Request { id, action }, &fds);
        drop(stdio);
        if let Err(error) = sent {
            self.waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
            return Err(LaunchError::Helper(error.into()));
        }
        match receiver.await {
            Ok(Ok(pid)) => Ok(pid),
            Ok(Err(failure)) if failure.program => Err(LaunchError::Program(failure.message)),
            Ok(Err(failure)) if failure.lost => Err(LaunchError::Lost(failure.message)),
            Ok(Err(failure)) => Err(LaunchError::Node(failure.message)),
            Err(_) => Err(LaunchError::Helper(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // Wakes the reading thread and makes the helper end. Fails only if the helper is already
        // gone.
        let _ = shutdown(std::os::fd::AsRawFd::as_raw_fd(&*self.socket), Shutdown::Both);
    }
}

/// The descriptors for the standard streams of a new process.
#[derive(Debug)]
pub(crate) struct Stdio3 {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

fn dispatch(socket: BorrowedFd<'_>, waiting: &Mutex<Waiting>) {
    let mut buffer = protocol::packet_buffer();
    loop {
        match protocol::receive::<Reply>(socket, &mut buffer) {
            Ok(Some((reply, _))) => {
                let waiter = waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&reply.id);
                if let Some(waiter) = waiter {
                    // The caller may have stopped waiting.
                    let _ = waiter.send(reply.outcome);
                }
            }
            Ok(None) => break,
            Err(error) => {
                tracing::error!(%error, "reading from the container helper failed");
                break;
            }
        }
    }
    // Dropping the senders notifies every caller that still waits.
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
