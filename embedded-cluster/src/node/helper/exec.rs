//! Running a command inside a container: what `runc exec` does, without its weight.
//!
//! libcontainer's tenant container takes about 40 ms, most of it configuration, cgroups and three forks of a
//! freshly executed binary; nine pods with two probes each would need more than a core. Here the worker joins
//! the namespaces of the container's init process in one `setns`, forks once more (a pid namespace only takes
//! effect in a child), takes on the identity recorded in the bundle, and executes. The command runs outside
//! the container's cgroup; nothing but the memory limit, which a probe does not strain, lives there.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::PathBuf;

use libcontainer::capabilities;
use libcontainer::syscall::syscall::create_syscall;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, pipe2, setgroups, setresgid, setresuid,
    setsid,
};
use oci_spec::runtime::{Process, Spec};

use super::protocol::{ExecInContainer, Failure};
use super::{in_child, node_failure, program};

/// Starts the command, and returns its pid as the caller's pid namespace knows it.
pub(super) fn exec(request: &ExecInContainer, fds: Vec<OwnedFd>) -> Result<i32, Failure> {
    let spec = Spec::load(request.bundle.join("config.json")).map_err(node_failure)?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| node_failure("the bundle has no process"))?;
    for stream in fds.iter().skip(1) {
        // Fails for streams that are not ours to change, which need no change either.
        let _ = fchown(stream, Some(process.user().uid()), None);
    }
    join_namespaces(request.init).map_err(|error| node_failure(format!("join the container: {error}")))?;
    // Closed by a successful exec; what comes through is why there was none.
    let (mut verdict, report) = pipe2(OFlag::O_CLOEXEC)
        .map(|(r, w)| (File::from(r), w))
        .map_err(node_failure)?;
    let child = in_child(|| {
        let failure = become_command(process, request, &fds);
        let bytes = serde_json::to_vec(&failure).unwrap_or_default();
        // If the worker is gone nobody is left to tell.
        let _ = File::from(report.try_clone().expect("one more descriptor")).write_all(&bytes);
        std::process::exit(127)
    })
    .map_err(node_failure)?;
    drop(report);
    drop(fds);
    let mut bytes = Vec::new();
    verdict.read_to_end(&mut bytes).map_err(node_failure)?;
    if bytes.is_empty() {
        return Ok(child.as_raw());
    }
    Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| node_failure("the command ended before it began")))
}

fn join_namespaces(init: i32) -> nix::Result<()> {
    let init = pidfd_open(init)?;
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
    // SAFETY: the kernel has just made this descriptor, and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Only returns when it fails.
fn become_command(process: &Process, request: &ExecInContainer, fds: &[OwnedFd]) -> Failure {
    let env = process.env().clone().unwrap_or_default();
    let name = &request.command[0];
    let refused = |error: &dyn std::fmt::Display| Failure {
        program: true,
        message: format!("exec: {name:?}: {error}"),
    };
    if let Err(error) = take_identity(process, request.tty, fds) {
        return node_failure(format!("prepare the command: {error}"));
    }
    let path = match program::find(name, program::path_of(&env)) {
        Ok(path) => path,
        Err(message) => {
            return Failure {
                program: true,
                message,
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

/// The order is that of runc and libcontainer: the working directory while still privileged, then groups and
/// ids, then capabilities, and no new privileges last.
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
    // Everything above standard error goes away with the exec.
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
    // SAFETY: TIOCSCTTY takes an integer, and descriptor 0 is the terminal just put there.
    nix::errno::Errno::result(unsafe { libc::ioctl(std::io::stdin().as_raw_fd(), libc::TIOCSCTTY, 0) })
        .map(drop)
}
