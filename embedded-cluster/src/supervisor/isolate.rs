//! The supervisor's first moments: from an ordinary process to PID 1 of its own namespaces.
//!
//! All of it happens before any thread exists, since the kernel lets only single-threaded processes enter a
//! user namespace, and since a PID namespace is for children: this process forks once, the child becomes PID 1,
//! and what remains here only waits for it. The child dies with this process (parent-death signal), and this
//! process dies with the host program (the lifeline on standard input, watched by PID 1).

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

/// Where the run's files may be mounted: directories that every distribution has, that hold nothing a cluster
/// needs. The tmpfs covers one of them in the supervisor's own mount namespace; the host's stays as it is.
const STATE_MOUNT_POINTS: [&str; 4] = ["/mnt", "/media", "/srv", "/opt"];

/// Exit code of a supervisor that could not start; the reason was reported on standard output.
const EXIT_CANNOT_START: i32 = 3;

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

/// Reports `error` to the host program, in a form that tells a missing permission from other faults.
pub(super) fn fail(error: &StepError) {
    let permission = error
        .source
        .downcast_ref::<nix::Error>()
        .is_some_and(|errno| matches!(errno, nix::Error::EPERM | nix::Error::EACCES | nix::Error::ENOSPC));
    let mut cause = error.source.to_string();
    let mut next = error.source.source();
    while let Some(source) = next {
        cause = format!("{cause}: {source}");
        next = source.source();
    }
    // Nobody left to tell is no further fault.
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
    // The terminal's Ctrl-C is for the host program, which still wants to collect evidence from this cluster.
    setsid().map_err(|e| StepError::new("start a session", e))?;
    let request = read_request()?;
    // A socket belongs to the network namespace it was made in: bound here, the API stays on the host's
    // loopback while everything else moves into a network of its own.
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
    become_init(request, listener)
}

fn read_request() -> Result<Request, StepError> {
    let mut line = String::new();
    // Byte by byte up to the newline would be needed if more followed; nothing does but the ID-mapping answer,
    // which the host program sends only after it was asked.
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|e| StepError::new("read the request", e))?;
    serde_json::from_str(&line).map_err(|e| StepError::new("understand the request", e))
}

/// Enters a user namespace in which this process is root, with the IDs that the host program maps for it.
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
            "the host program gave up",
        ));
    }
    let root = nix::unistd::Uid::from_raw(0);
    let group = nix::unistd::Gid::from_raw(0);
    nix::unistd::setresgid(group, group, group)
        .and_then(|()| nix::unistd::setresuid(root, root, root))
        .map_err(|e| StepError::new("become root of the user namespace", e))
}

/// Forks the cluster's PID 1 and waits for it.
fn become_init(request: Request, listener: TcpListener) -> Result<i32, StepError> {
    #[expect(unsafe_code, reason = "a PID namespace is entered by forking")]
    // SAFETY: no other thread exists yet, so the child may go on with everything the parent had.
    let forked = unsafe { fork() }.map_err(|e| StepError::new("fork PID 1 of the cluster", e))?;
    match forked {
        ForkResult::Child => {
            if let Err(error) = run_as_init(request, listener) {
                fail(&error);
                std::process::exit(EXIT_CANNOT_START);
            }
            std::process::exit(0)
        }
        ForkResult::Parent { child } => loop {
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => return Ok(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(e) => return Err(StepError::new("wait for PID 1 of the cluster", e)),
            }
        },
    }
}

fn run_as_init(request: Request, listener: TcpListener) -> Result<(), StepError> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|e| StepError::new("tie PID 1 to its parent", e))?;
    if request.lifeline {
        watch_lifeline()?;
    }
    let state_dir = mount_private_filesystems(&request)?;
    nix::unistd::sethostname(init::NODE_NAME).map_err(|e| StepError::new("set the host name", e))?;
    init::run(request, listener, &state_dir)
}

/// Ends PID 1, and with it the whole cluster, as soon as the host program's end of standard input is closed.
///
/// A thread of its own that blocks in `read`: it works however busy or stuck the async runtime is.
fn watch_lifeline() -> Result<(), StepError> {
    std::thread::Builder::new()
        .name("lifeline".into())
        .spawn(|| {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            // PID 1 leaving takes every process of the namespace along; there is nothing to unwind.
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

/// Cuts mount propagation, shows this PID namespace in /proc, and mounts the tmpfs that holds the run's files.
fn mount_private_filesystems(request: &Request) -> Result<PathBuf, StepError> {
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .map_err(|e| StepError::new("make mounts private", e))?;
    // The old /proc shows another PID namespace. Where the kernel forbids to unmount it, covering it does as well.
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
        MsFlags::MS_NOSUID,
        Some("mode=0755"),
    )
    .map_err(|e| StepError::new(format!("mount a tmpfs on {}", state_dir.display()), e))?;
    Ok(state_dir)
}

/// The first candidate that exists and whose covering hides neither the images nor this executable.
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
