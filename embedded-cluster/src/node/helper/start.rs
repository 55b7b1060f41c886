//! Creating and starting a container with libcontainer, in a forked worker of the helper.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::path::Path;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use oci_spec::runtime::Spec;

use super::protocol::{Failure, StartContainer};
use super::{cgroup, node_failure, program};

/// Starts the container; its init process is the caller's child, and becomes PID 1's when the caller exits.
pub(super) fn start(request: &StartContainer, mut fds: Vec<OwnedFd>) -> Result<i32, Failure> {
    let (Some(stderr), Some(stdout), Some(stdin)) = (fds.pop(), fds.pop(), fds.pop()) else {
        return Err(node_failure("a container needs its three standard streams"));
    };
    for stream in [&stdout, &stderr] {
        // Fails for streams that are not ours to change (a terminal, /dev/null), which need no change either.
        let _ = fchown(stream, Some(request.uid), None);
    }
    if let Some(limit) = request.memory_limit {
        cgroup::limit_memory(&request.container, limit);
    }
    prepare_mounts(request)
        .map_err(|error| node_failure(format!("prepare the container's mounts: {error}")))?;
    let mut builder = ContainerBuilder::new(request.container.clone(), SyscallType::default())
        .with_executor(Payload)
        .with_root_path(&request.state)
        .map_err(|error| classify(&error))?;
    builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
    let mut container = builder
        .as_init(&request.bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(|error| classify(&error))?;
    container.start().map_err(|error| classify(&error))?;
    container
        .state
        .pid
        .ok_or_else(|| node_failure("the container has no init process"))
}

/// A mount namespace of the worker's own: the overlay is seen by the container only and goes when it does, so
/// there is nothing to unmount.
fn prepare_mounts(request: &StartContainer) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    cgroup::hide(&request.container)?;
    let rootfs = request.bundle.join("rootfs");
    let upper = request.bundle.join("upper");
    let work = request.bundle.join("work");
    for directory in [&rootfs, &upper, &work] {
        fs::create_dir_all(directory)?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        escape(&request.image_rootfs),
        escape(&upper),
        escape(&work)
    );
    // In a user namespace only `user.` attributes can be written.
    for options in [options.clone(), format!("{options},userxattr")] {
        match mount(
            Some("overlay"),
            &rootfs,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        ) {
            Ok(()) => return Ok(()),
            Err(Errno::EPERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EPERM.into())
}

/// Overlay options separate directories with `:` and options with `,`.
fn escape(path: &Path) -> String {
    let mut escaped = String::new();
    for character in path.to_string_lossy().chars() {
        if matches!(character, ':' | ',' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// runc's words for a program that cannot be run are the user's to read; everything else is the node's.
fn classify(error: &dyn std::error::Error) -> Failure {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    match message.find("exec: \"") {
        Some(position) => Failure {
            program: true,
            message: message.split_off(position),
        },
        None => Failure {
            program: false,
            message,
        },
    }
}

/// libcontainer's own executor, with runc's texts and without its insistence on a `PATH`.
#[derive(Clone)]
struct Payload;

impl Executor for Payload {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (args, env) = command(spec).ok_or(ExecutorError::InvalidArg)?;
        let path = program::find(&args[0], program::path_of(env)).map_err(ExecutorError::Other)?;
        let other =
            |error: &dyn std::fmt::Display| ExecutorError::Other(format!("exec: {:?}: {error}", args[0]));
        let path = CString::new(path.into_os_string().into_encoded_bytes()).map_err(|error| other(&error))?;
        let args = program::c_strings(args).map_err(|error| other(&error))?;
        let env = program::c_strings(env).map_err(|error| other(&error))?;
        let Err(errno) = nix::unistd::execve(&path, &args, &env);
        Err(other(&errno))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let (args, env) = command(spec)
            .ok_or_else(|| ExecutorValidationError::ArgValidationError("no command specified".into()))?;
        program::find(&args[0], program::path_of(env))
            .map(drop)
            .map_err(ExecutorValidationError::ArgValidationError)
    }

    /// `exec` passes the environment itself, in its order.
    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

fn command(spec: &Spec) -> Option<(&[String], &[String])> {
    let process = spec.process().as_ref()?;
    let args = process.args().as_deref().filter(|args| !args.is_empty())?;
    Some((args, process.env().as_deref().unwrap_or_default()))
}
