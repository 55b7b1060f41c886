//! The one place that waits for child processes.
//!
//! The supervisor is PID 1 of its namespace, so every orphan becomes its child. The helper
//! deliberately orphans the container processes that it starts. One loop calls `waitpid(-1)` on
//! every SIGCHLD. It delivers each exit status to the caller that asks for the pid, before or after
//! the process ends. Nothing else in this process may wait for children (`tokio::process` in
//! particular), because it would take statuses away.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Number of later ends for which an unclaimed status is kept. Orphans of containers, whose status
/// is never claimed, count as well. A container's status is claimed within milliseconds.
const UNCLAIMED_STATUSES: usize = 4096;

/// The way in which a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The process exited with this code.
    Code(i32),
    /// The process was killed by this signal.
    Signal(i32),
}

impl Exit {
    /// The exit reported when the reaper itself is gone, which only happens while the supervisor is
    /// ending.
    pub(crate) const LOST: Self = Self::Code(255);

    /// Returns the code that a shell and the kubelet report: 128 + signal number for a killed
    /// process.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// The central reaper; clones of the `Arc` share it.
#[derive(Debug)]
pub struct Reaper {
    state: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    waiters: BTreeMap<i32, Vec<oneshot::Sender<Exit>>>,
    unclaimed: BTreeMap<i32, Exit>,
    order: VecDeque<i32>,
}

/// A process started with [`Reaper::spawn`].
#[derive(Debug)]
pub struct Child {
    /// The child's process ID.
    pub pid: i32,
    /// The child's standard input, when piped.
    pub stdin: Option<ChildStdin>,
    /// The child's standard output, when piped.
    pub stdout: Option<ChildStdout>,
    /// The child's standard error, when piped.
    pub stderr: Option<ChildStderr>,
    exit: oneshot::Receiver<Exit>,
}

impl Child {
    /// Waits for the process to end.
    pub async fn wait(self) -> Exit {
        self.exit.await.unwrap_or(Exit::LOST)
    }
}

impl Reaper {
    /// Starts reaping. Needs a running tokio runtime, and a process that is PID 1 or a child
    /// subreaper.
    ///
    /// # Errors
    /// Fails when the SIGCHLD handler cannot be installed.
    pub fn install() -> io::Result<Arc<Self>> {
        let reaper = Arc::new(Self {
            state: Mutex::default(),
        });
        // The handler is installed before the first sweep, so that one of them sees an end in
        // between.
        let mut children = signal(SignalKind::child())?;
        let weak = Arc::downgrade(&reaper);
        tokio::spawn(async move {
            while let Some(reaper) = weak.upgrade() {
                reaper.sweep();
                drop(reaper);
                if children.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(reaper)
    }

    /// Starts a program whose end this reaper will report.
    ///
    /// # Errors
    /// Fails when the program cannot be started.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        // The lock is held during the spawn. The standard library itself reaps a child whose exec
        // failed, and a sweep in between would take that status away.
        let mut state = self.lock();
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).expect("a pid fits in i32");
        Ok(Child {
            pid,
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            exit: state.subscribe(pid),
        })
    }

    /// Waits for the end of a child (or adopted orphan) by pid. Also works for a process that has
    /// already ended, unless its status was claimed before.
    pub async fn wait(&self, pid: i32) -> Exit {
        self.subscribe(pid).await.unwrap_or(Exit::LOST)
    }

    /// Returns a receiver for the result of [`Self::wait`], which several places can poll.
    pub(crate) fn subscribe(&self, pid: i32) -> oneshot::Receiver<Exit> {
        self.lock().subscribe(pid)
    }

    /// Sends a signal, unless the process has already been reaped (another process might now have
    /// its pid).
    ///
    /// # Errors
    /// Fails when the signal is refused; a process that is gone is not an error.
    pub fn kill(&self, pid: i32, signal: Signal) -> nix::Result<()> {
        let state = self.lock();
        if state.unclaimed.contains_key(&pid) {
            return Ok(());
        }
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sweep(&self) {
        let mut state = self.lock();
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => state.record(pid.as_raw(), Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    state.record(pid.as_raw(), Exit::Signal(signal as i32));
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "waiting for child processes failed");
                    return;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiters {
    fn subscribe(&mut self, pid: i32) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        if let Some(exit) = self.unclaimed.remove(&pid) {
            // The receiver still exists here, so this cannot fail.
            let _ = sender.send(exit);
        } else {
            self.waiters.entry(pid).or_default().push(sender);
        }
        receiver
    }

    fn record(&mut self, pid: i32, exit: Exit) {
        if let Some(waiters) = self.waiters.remove(&pid) {
            for waiter in waiters {
                // A waiter that is gone no longer needs the result.
                let _ = waiter.send(exit);
            }
            return;
        }
        self.unclaimed.insert(pid, exit);
        self.order.push_back(pid);
        if self.order.len() > UNCLAIMED_STATUSES
            && let Some(oldest) = self.order.pop_front()
        {
            self.unclaimed.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, UNCLAIMED_STATUSES, Waiters};

    #[test]
    fn a_status_is_kept_until_it_is_asked_for() {
        let mut state = Waiters::default();
        state.record(7, Exit::Code(3));
        assert_eq!(state.subscribe(7).try_recv(), Ok(Exit::Code(3)));
    }

    #[test]
    fn a_waiter_is_told_and_the_status_is_not_kept() {
        let mut state = Waiters::default();
        let mut waiter = state.subscribe(7);
        state.record(7, Exit::Signal(9));
        assert_eq!(waiter.try_recv(), Ok(Exit::Signal(9)));
        assert!(state.unclaimed.is_empty());
    }

    #[test]
    fn unclaimed_statuses_are_bounded() {
        let mut state = Waiters::default();
        for pid in 0..i32::try_from(UNCLAIMED_STATUSES).unwrap() + 10 {
            state.record(pid, Exit::Code(0));
        }
        assert_eq!(state.unclaimed.len(), UNCLAIMED_STATUSES);
        assert!(!state.unclaimed.contains_key(&0));
    }

    #[test]
    fn a_killed_process_reports_128_plus_the_signal() {
        assert_eq!(Exit::Signal(15).code(), 143);
    }
}
