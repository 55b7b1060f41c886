//! Creation and start of a container with libcontainer, in a forked worker of the helper.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use oci_spec::runtime::Spec;

use super::protocol::{Failure, StartContainer};
use super::{cgroup, node_failure, program};
use crate::confined::Confined;
use crate::node::volumes::{IMAGE_VOLUMES, SUB_PATHS};

/// Starts the container. Its init process is the caller's child, and becomes PID 1's child when the
/// caller exits.
pub(super) fn start(request: &StartContainer, mut fds: Vec<OwnedFd>) -> Result<i32, Failure> {
    let (Some(stderr), Some(stdout), Some(stdin)) = (fds.pop(), fds.pop(), fds.pop()) else {
        return Err(node_failure("a container needs its three standard streams"));
    };
    for stream in [&stdout, &stderr] {
        // Fails for streams owned by others (a terminal, /dev/null), which need no change.
        let _ = fchown(stream, Some(request.uid), None);
    }
    if let Some((group, limit)) = &request.memory_limit {
        group.limit_memory(*limit);
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

/// Prepares the mounts in a namespace that only this worker and its container share. They vanish
/// with the container, so nothing needs unmounting.
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
    let sub_paths = request.bundle.join(SUB_PATHS);
    fs::create_dir_all(&sub_paths)?;
    for (index, sub_path) in request.sub_paths.iter().enumerate() {
        sub_path.mount_at(&sub_paths.join(index.to_string()))?;
    }
    let image_volumes = request.bundle.join(IMAGE_VOLUMES);
    for (index, path) in request.image_volumes.iter().enumerate() {
        mount_image_volume(
            &request.image_rootfs,
            path,
            &image_volumes.join(index.to_string()),
        )?;
    }
    mount_overlay(
        &request.image_rootfs,
        &request.bundle,
        &request.bundle.join("rootfs"),
    )
}

/// Mounts the anonymous volume for a path that the image declares. It is empty or has the image's
/// content of that path.
fn mount_image_volume(image: &Path, path: &Path, target: &Path) -> io::Result<()> {
    let content = match Confined::open(image)?.existing_folder(path.strip_prefix("/").unwrap_or(path)) {
        Ok(content) => File::from(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fs::create_dir_all(target),
        Err(error) => return Err(error),
    };
    let layers = target.with_extension("layers");
    let lower = PathBuf::from(format!("/proc/self/fd/{}", content.as_raw_fd()));
    mount_overlay(&lower, &layers, target)?;
    // The upper layer provides the directory itself.
    let like = content.metadata()?;
    std::os::unix::fs::chown(target, Some(like.uid()), Some(like.gid()))?;
    fs::set_permissions(target, like.permissions())
}

/// Mounts `lower` at `target` such that writes go to `layers`. Devices in it cannot be opened,
/// since nothing else would keep a container from the machine's devices.
fn mount_overlay(lower: &Path, layers: &Path, target: &Path) -> io::Result<()> {
    let upper = layers.join("upper");
    let work = layers.join("work");
    for directory in [target, &upper, &work] {
        fs::create_dir_all(directory)?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        escape(lower),
        escape(&upper),
        escape(&work)
    );
    // In a user namespace only `user.` attributes can be written.
    for options in [options.clone(), format!("{options},userxattr")] {
        match mount(
            Some("overlay"),
            target,
            Some("overlay"),
            MsFlags::MS_NODEV,
            Some(options.as_str()),
        ) {
            Ok(()) => return Ok(()),
            Err(Errno::EPERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EPERM.into())
}

/// Escapes a path for overlay options, which separate directories with `:` and options with `,`.
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

/// Classifies a failure. runc's errors for a program that cannot run are for the user; all others
/// are the node's.
fn classify(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut message = error_text::chain(error);
    match message.find("exec: \"") {
        Some(position) => Failure {
            program: true,
            ..node_failure(message.split_off(position))
        },
        None => node_failure(message),
    }
}

/// A copy of libcontainer's executor with runc's texts, which does not require a `PATH`.
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

    /// Does nothing: `exec` passes the environment itself, in its order.
    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

fn command(spec: &Spec) -> Option<(&[String], &[String])> {
    let process = spec.process().as_ref()?;
    let args = process.args().as_deref().filter(|args| !args.is_empty())?;
    Some((args, process.env().as_deref().unwrap_or_default()))
}
