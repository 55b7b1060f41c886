//! The start of the supervisor: from an ordinary process to PID 1 of new namespaces.
//!
//! All steps happen before any thread exists: the kernel lets only single-threaded processes enter
//! a user namespace. A PID namespace applies only to children, so this process forks once. The
//! child becomes PID 1, and the parent only waits for it.
//!
//! The child dies with this process (parent-death signal). This process dies with the host program
//! (the lifeline on standard input, watched by PID 1).

use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, setsid};

use super::init;
use super::protocol::{Reply, Request};
use crate::node::cgroup;

/// Mount points for the run's files: directories that every distribution has and no cluster needs.
/// The tmpfs covers one of them in the supervisor's mount namespace. The host's directory stays
/// unchanged.
const STATE_MOUNT_POINTS: [&str; 4] = ["/mnt", "/media", "/srv", "/opt"];

/// Exit code of a supervisor that could not start; the reason was reported on standard output.
pub(super) const EXIT_CANNOT_START: i32 = 3;

/// Exit code of a cluster with a part that has died; the part was reported on standard output.
pub(super) const EXIT_DIED: i32 = 4;

/// A step of the start that the system refused.
#[derive(Debug)]
pub(super) struct StepError {
    pub(super) what: String,
    pub(super) source: Box<dyn std::error::Error + Send + Sync>,
}

impl StepError {
    pub(super) fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            what: what.into(),
            source: source.into(),
        }
    }
}

/// The supervisor's `main`. Never returns.
pub(super) fn main() -> ! {
    let code = match isolate() {
        Ok(code) => code,
        Err(error) => {
            fail(&error);
            EXIT_CANNOT_START
        }
    };
    std::process::exit(code)
}

/// Reports `error` to the host program, in a form that distinguishes a missing permission from
/// other faults.
pub(super) fn fail(error: &StepError) {
    let permission = error
        .source
        .downcast_ref::<nix::Error>()
        .is_some_and(|errno| matches!(errno, nix::Error::EPERM | nix::Error::EACCES | nix::Error::ENOSPC));
    let cause = error_text::chain(error.source.as_ref());
    // A failed report means that the host program is gone, which needs no handling.
    let _ = say(&Reply::Failed {
        what: error.what.clone(),
        cause,
        permission,
    });
}

/// Writes one reply line to the host program.
pub(super) fn say(reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_string(reply).expect("a reply is plain data");
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

fn isolate() -> Result<i32, StepError> {
    // Ctrl-C on the terminal is for the host program, which still collects evidence from this
    // cluster.
    setsid().map_err(|e| StepError::new("start a session", e))?;
    super::files::raise_limit();
    cgroup::sweep();
    let request = read_request()?;
    // A socket belongs to the network namespace in which it was created. Bound here, the API stays
    // on the host's loopback. All later sockets are in a new network namespace.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, request.port))
        .map_err(|e| StepError::new(format!("listen on 127.0.0.1:{}", request.port), e))?;
    if request.user_namespace {
        enter_user_namespace()?;
    }
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )
    .map_err(|e| StepError::new("enter new mount, network and PID namespaces", e))?;
    // This must run while /proc still shows this process.
    let cgroups = cgroup::of_this_cluster();
    let ended = become_init(request, listener, &cgroups);
    cgroup::remove_cluster(&cgroups);
    ended
}

fn read_request() -> Result<Request, StepError> {
    let mut line = String::new();
    // A buffered read may consume input after the newline, which is safe here. Only the answer to
    // the ID-mapping request follows, and the host program sends it only after that request.
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|e| StepError::new("read the request", e))?;
    serde_json::from_str(&line).map_err(|e| StepError::new("parse the request", e))
}

/// Enters a user namespace in which this process is root, with IDs mapped by the host program.
fn enter_user_namespace() -> Result<(), StepError> {
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| StepError::new("enter a new user namespace", e))?;
    say(&Reply::MapIds).map_err(|e| StepError::new("ask for an ID mapping", e))?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| StepError::new("wait for the ID mapping", e))?;
    if answer.trim() != "mapped" {
        return Err(StepError::new(
            "wait for the ID mapping",
            "the host program sent no ID mapping",
        ));
    }
    let root = nix::unistd::Uid::from_raw(0);
    let group = nix::unistd::Gid::from_raw(0);
    nix::unistd::setresgid(group, group, group)
        .and_then(|()| nix::unistd::setresuid(root, root, root))
        .map_err(|e| StepError::new("become root of the user namespace", e))
}

/// Forks the cluster's PID 1 and waits for it.
fn become_init(request: Request, listener: TcpListener, cgroups: &str) -> Result<i32, StepError> {
    #[expect(unsafe_code, reason = "a PID namespace is entered by forking")]
    // SAFETY: no other thread exists yet, so the child may continue with all state of the parent.
    let forked = unsafe { fork() }.map_err(|e| StepError::new("fork PID 1 of the cluster", e))?;
    match forked {
        ForkResult::Child => {
            if let Err(error) = run_as_init(request, listener, cgroups) {
                fail(&error);
                std::process::exit(EXIT_CANNOT_START);
            }
            std::process::exit(0)
        }
        ForkResult::Parent { child } => loop {
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => return Ok(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    // A failed report means that the host program is gone, which needs no handling.
                    let _ = say(&Reply::Died {
                        part: "first process".to_owned(),
                        cause: format!("was killed by {signal}"),
                    });
                    return Ok(128 + signal as i32);
                }
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(e) => return Err(StepError::new("wait for PID 1 of the cluster", e)),
            }
        },
    }
}

fn run_as_init(request: Request, listener: TcpListener, cgroups: &str) -> Result<(), StepError> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|e| StepError::new("tie PID 1 to its parent", e))?;
    if request.lifeline {
        watch_lifeline()?;
    }
    let state_dir = mount_private_filesystems(&request)?;
    nix::unistd::sethostname(init::NODE_NAME).map_err(|e| StepError::new("set the host name", e))?;
    init::run(request, listener, &state_dir, cgroups)
}

/// Ends PID 1, and thus the whole cluster, when the host program's end of standard input closes.
///
/// A separate thread blocks in `read`. This works even if the async runtime is busy or stuck.
fn watch_lifeline() -> Result<(), StepError> {
    std::thread::Builder::new()
        .name("lifeline".into())
        .spawn(|| {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            // The exit of PID 1 ends every process of the namespace; there is nothing to unwind.
            #[expect(
                unsafe_code,
                reason = "exit without running atexit handlers of a runtime in use"
            )]
            // SAFETY: `_exit` ends the process and touches none of its memory.
            unsafe {
                libc::_exit(0)
            }
        })
        .map(drop)
        .map_err(|e| StepError::new("watch the lifeline", e))
}

/// Stops mount propagation, shows this PID namespace in /proc, and mounts the tmpfs that holds the
/// run's files.
fn mount_private_filesystems(request: &Request) -> Result<PathBuf, StepError> {
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .map_err(|e| StepError::new("make mounts private", e))?;
    // The old /proc shows another PID namespace. Where the kernel forbids unmounting it, covering
    // it is enough.
    let _ = umount2("/proc", MntFlags::MNT_DETACH);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NONE).map_err(|e| StepError::new("mount /proc", e))?;

    let state_dir = state_mount_point(&request.image_store).ok_or_else(|| {
        StepError::new(
            "find a directory to mount the cluster's files on",
            STATE_MOUNT_POINTS.join(", "),
        )
    })?;
    mount(
        Some("embedded-cluster"),
        &state_dir,
        Some("tmpfs"),
        // Containers see parts of this tmpfs. A device created there would be a device of the host.
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=0755"),
    )
    .map_err(|e| StepError::new(format!("mount a tmpfs on {}", state_dir.display()), e))?;
    Ok(state_dir)
}

/// Returns the first candidate that exists and can be covered without hiding the images or this
/// executable.
fn state_mount_point(image_store: &Path) -> Option<PathBuf> {
    let needed: Vec<PathBuf> = [Some(image_store.to_path_buf()), std::env::current_exe().ok()]
        .into_iter()
        .flatten()
        .collect();
    STATE_MOUNT_POINTS
        .iter()
        .map(PathBuf::from)
        .find(|candidate| candidate.is_dir() && !needed.iter().any(|path| path.starts_with(candidate)))
}
