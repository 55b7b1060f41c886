//! Waiting for the end of processes that are not children of this one.

use std::fs;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A process that was running, or a zombie, when this was opened.
#[derive(Debug)]
pub(super) struct PidFd(OwnedFd);

impl PidFd {
    pub(super) fn open(pid: i32) -> io::Result<Self> {
        #[expect(unsafe_code, reason = "pidfd_open has no wrapper in nix")]
        // SAFETY: the system call takes two integers and returns a new descriptor. This process
        // then owns the descriptor.
        let descriptor = unsafe {
            let descriptor = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(i32::try_from(descriptor).expect("a descriptor fits an int"))
        };
        Ok(Self(descriptor))
    }

    /// Waits for the process to end, for at most `milliseconds`.
    pub(super) fn wait(&self, milliseconds: u16) -> io::Result<()> {
        let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(milliseconds))?;
        Ok(())
    }
}

/// Returns the host's process ID of the cluster's PID 1, the child of `supervisor`. PID 1 ends only
/// after all other processes of the cluster.
pub(super) fn first_process(supervisor: i32) -> io::Result<Option<i32>> {
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"))?;
    Ok(children
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok()))
}
