//! Execution of a command inside a container, like `runc exec` but cheaper.
//!
//! libcontainer's tenant container takes about 40 ms. Most of that goes to configuration, cgroups
//! and three forks of a freshly executed binary. Nine pods with two probes each would need more
//! than a core. The worker here does the following instead:
//!
//! - joins the namespaces of the container's init process in one `setns`
//! - forks once more (a pid namespace only takes effect in a child)
//! - takes on the identity recorded in the bundle
//! - executes the command
//!
//! The command runs outside the container's cgroup. That cgroup only has the memory limit, which
//! matters little for a probe.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::PathBuf;

use libcontainer::capabilities;
use libcontainer::syscall::syscall::create_syscall;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, pipe2, setgroups, setresgid, setresuid,
    setsid,
};
use oci_spec::runtime::{Process, Spec};

use super::protocol::{ExecInContainer, Failure};
use super::{in_child, node_failure, program};

/// Starts the command and returns its pid in the caller's pid namespace.
pub(super) fn exec(request: &ExecInContainer, fds: Vec<OwnedFd>) -> Result<i32, Failure> {
    let spec = Spec::load(request.bundle.join("config.json")).map_err(node_failure)?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| node_failure("the bundle has no process"))?;
    for stream in fds.iter().skip(1) {
        // Fails for streams owned by others, which need no change.
        let _ = fchown(stream, Some(process.user().uid()), None);
    }
    let join = |error| node_failure(format!("join the container: {error}"));
    let init = pidfd_open(request.init).map_err(join)?;
    join_namespaces(&init).map_err(join)?;
    // A successful exec closes this pipe; any content is the reason for a failure.
    let (mut verdict, report) = pipe2(OFlag::O_CLOEXEC)
        .map(|(r, w)| (File::from(r), w))
        .map_err(node_failure)?;
    let child = in_child(|| {
        let failure = become_command(process, request, &fds);
        let bytes = serde_json::to_vec(&failure).unwrap_or_default();
        // A failed write means that the worker is gone and nobody needs the reason.
        let _ = File::from(report.try_clone().expect("one more descriptor")).write_all(&bytes);
        std::process::exit(127)
    })
    .map_err(|errno| fork_failure(errno, has_ended(&init)))?;
    drop(report);
    drop(fds);
    let mut bytes = Vec::new();
    verdict.read_to_end(&mut bytes).map_err(node_failure)?;
    if bytes.is_empty() {
        return Ok(child.as_raw());
    }
    Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| node_failure("the command ended before it began")))
}

/// Explains why no child could be forked. In a PID namespace whose first process has ended, the
/// kernel answers ENOMEM (fork(2)) although the machine has enough memory.
fn fork_failure(errno: nix::Error, init_has_ended: bool) -> Failure {
    match errno {
        nix::Error::ENOMEM if init_has_ended => node_failure("the container's process has ended"),
        errno => node_failure(errno),
    }
}

/// Returns true once a process has ended, even before its parent has waited for it.
fn has_ended(process: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn join_namespaces(init: &OwnedFd) -> nix::Result<()> {
    setns(
        init,
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
}

#[expect(unsafe_code, reason = "pidfd_open has no wrapper in nix or std")]
fn pidfd_open(pid: i32) -> nix::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: the system call takes two integers and returns a new descriptor or -1.
    let fd = nix::errno::Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = i32::try_from(fd).map_err(|_| nix::Error::EBADF)?;
    // SAFETY: the kernel has just created this descriptor, and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Executes the command. Returns only on failure.
fn become_command(process: &Process, request: &ExecInContainer, fds: &[OwnedFd]) -> Failure {
    let env = process.env().clone().unwrap_or_default();
    let name = &request.command[0];
    let refused = |error: &dyn std::fmt::Display| Failure {
        program: true,
        ..node_failure(format!("exec: {name:?}: {error}"))
    };
    if let Err(error) = take_identity(process, request.tty, fds) {
        return node_failure(format!("prepare the command: {error}"));
    }
    let path = match program::find(name, program::path_of(&env)) {
        Ok(path) => path,
        Err(message) => {
            return Failure {
                program: true,
                ..node_failure(message)
            };
        }
    };
    match c_command(path, &request.command, &env) {
        Ok((path, args, env)) => {
            let Err(errno) = execve(&path, &args, &env);
            refused(&errno)
        }
        Err(error) => refused(&error),
    }
}

type CCommand = (CString, Vec<CString>, Vec<CString>);

fn c_command(path: PathBuf, args: &[String], env: &[String]) -> Result<CCommand, std::ffi::NulError> {
    let path = CString::new(path.into_os_string().into_encoded_bytes())?;
    Ok((path, program::c_strings(args)?, program::c_strings(env)?))
}

/// Takes on the container's identity in the order of runc and libcontainer:
///
/// - the working directory while still privileged
/// - groups and ids
/// - capabilities
/// - no new privileges
fn take_identity(process: &Process, tty: bool, fds: &[OwnedFd]) -> Result<(), Box<dyn std::error::Error>> {
    setsid()?;
    let [stdin, stdout, stderr] = fds else {
        return Err("a command needs its three standard streams".into());
    };
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    if tty {
        control_terminal()?;
    }
    let syscall = create_syscall();
    // The exec closes every descriptor above standard error.
    syscall.close_range(0)?;
    chdir(process.cwd())?;
    let user = process.user();
    let groups: Vec<Gid> = user
        .additional_gids()
        .iter()
        .flatten()
        .copied()
        .map(Gid::from_raw)
        .collect();
    setgroups(&groups)?;
    nix::sys::prctl::set_keepcaps(true)?;
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    capabilities::reset_effective(syscall.as_ref())?;
    if let Some(wanted) = process.capabilities() {
        capabilities::drop_privileges(wanted, syscall.as_ref())?;
    }
    if process.no_new_privileges() == Some(true) {
        nix::sys::prctl::set_no_new_privs()?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "the terminal ioctl has no safe form")]
fn control_terminal() -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer, and descriptor 0 is the terminal that was just installed.
    nix::errno::Errno::result(unsafe { libc::ioctl(std::io::stdin().as_raw_fd(), libc::TIOCSCTTY, 0) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use nix::Error;

    use super::*;

    #[test]
    fn a_container_that_has_ended_is_no_lack_of_memory() {
        assert!(!fork_failure(Error::ENOMEM, true).message.contains("ENOMEM"));
        assert!(fork_failure(Error::ENOMEM, false).message.contains("ENOMEM"));
        assert!(fork_failure(Error::EAGAIN, true).message.contains("EAGAIN"));
    }

    #[test]
    fn a_process_has_ended_before_it_is_waited_for() {
        let mut sleeper = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep");
        let process = pidfd_open(i32::try_from(sleeper.id()).expect("a pid")).expect("it runs");
        assert!(!has_ended(&process));
        sleeper.kill().expect("killed");
        let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::from(10_000_u16)).expect("it ends");
        assert!(has_ended(&process));
        sleeper.wait().expect("waited for");
    }
}
