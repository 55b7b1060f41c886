//! Limits of this process that a run depends on: descriptors, processes and memory. Soft limits are
//! raised to the hard ones. A limit that is too low is reported at the start, with its remedy.
//! Later it would look like a broken cluster, or the kernel would kill the run silently.

use std::path::{Path, PathBuf};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Descriptors that one process needs for a run of one trial: watches, logs and port-forwards. An
/// estimate with a margin.
const DESCRIPTORS: u64 = 256;

/// Threads and processes for a run of one trial. It has 6 servers with 5 threads each, the Jobs,
/// and both runtimes.
const PROCESSES: u64 = 256;

/// Memory for a run of one trial on the embedded cluster, servers included. An estimate: the
/// supervisor alone takes about 80 MiB with a hundred pods.
const MEMORY: u64 = 256 << 20;

/// The resources that this process may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Limits {
    descriptors: u64,
    /// The limit of this user's processes, and their present number.
    processes: Option<(u64, u64)>,
    /// The limit of memory, and its origin.
    memory: Option<(u64, String)>,
}

/// A limit that is too low for any run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("this process may use {has}, and a run needs {needs}: {remedy}")]
pub(crate) struct TooLow {
    has: String,
    needs: String,
    remedy: &'static str,
}

/// Raises the soft limits, and checks that they suffice for a run. `servers_here` is true if the
/// servers are children of this process.
///
/// # Errors
/// When a limit is too low.
pub(crate) fn check(servers_here: bool) -> Result<(), TooLow> {
    judge(&current(), servers_here)
}

fn judge(limits: &Limits, servers_here: bool) -> Result<(), TooLow> {
    if limits.descriptors < DESCRIPTORS {
        return Err(TooLow {
            has: format!("{} file descriptors", limits.descriptors),
            needs: DESCRIPTORS.to_string(),
            remedy: "raise the hard limit (`ulimit -Hn`, LimitNOFILE= of a service, --ulimit nofile= of a container)",
        });
    }
    if !servers_here {
        return Ok(());
    }
    if let Some((most, used)) = limits.processes
        && most.saturating_sub(used) < PROCESSES
    {
        return Err(TooLow {
            has: format!("{most} processes and threads, {used} of them in use"),
            needs: format!("{PROCESSES} more"),
            remedy: "raise the limit (`ulimit -u`, nproc in /etc/security/limits.conf), or run as root",
        });
    }
    if let Some((most, whose)) = &limits.memory
        && *most < MEMORY
    {
        return Err(TooLow {
            has: format!("{} MiB of memory ({whose})", most >> 20),
            needs: format!("{} MiB on the embedded cluster", MEMORY >> 20),
            remedy: "raise the limit (MemoryMax= of a service, --memory of a container, `ulimit -v`)",
        });
    }
    Ok(())
}

/// Returns the limits, after raising the soft ones.
fn current() -> Limits {
    let descriptors = raise(Resource::RLIMIT_NOFILE).unwrap_or(u64::MAX);
    let processes = raise(Resource::RLIMIT_NPROC);
    let address_space =
        raise(Resource::RLIMIT_AS).map(|most| (most, "the address space of a process".to_owned()));
    Limits {
        descriptors,
        // The limit does not apply to root.
        processes: processes
            .filter(|_| !nix::unistd::geteuid().is_root())
            .map(|most| (most, tasks_of_this_user())),
        memory: cgroup_memory().into_iter().chain(address_space).min(),
    }
}

/// Raises a soft limit to the hard one and returns it; `None` where there is no limit.
fn raise(resource: Resource) -> Option<u64> {
    let (soft, hard) = getrlimit(resource).ok()?;
    let raised = soft < hard && setrlimit(resource, hard, hard).is_ok();
    let now = if raised { hard } else { soft };
    (now != RLIM_INFINITY).then_some(now)
}

/// Counts the threads of all processes of this user.
fn tasks_of_this_user() -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let own = nix::unistd::getuid().as_raw();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = processes.filter(|process| process.metadata().is_ok_and(|metadata| metadata.uid() == own));
    let tasks = own.map(|process| std::fs::read_dir(process.path().join("task")).map_or(0, Iterator::count));
    tasks.map(|count| count as u64).sum()
}

/// Returns the lowest memory limit of this process's cgroups, and its file.
fn cgroup_memory() -> Option<(u64, String)> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    lowest_memory(&own, Path::new("/sys/fs/cgroup"))
}

fn lowest_memory(own: &str, root: &Path) -> Option<(u64, String)> {
    let files = own.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (
            fields.next().unwrap_or_default(),
            fields.next().unwrap_or_default(),
        );
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        files_above(&root, path, file)
    });
    let limits = files.filter_map(|file| {
        let limit: u64 = std::fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        Some((limit, file.display().to_string()))
    });
    limits.min()
}

/// Returns the file of a cgroup and of each one above it. In a container, the host's path does not
/// exist, and the container's cgroup is the root.
fn files_above(root: &Path, path: &str, file: &str) -> Vec<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    relative
        .ancestors()
        .map(|cgroup| root.join(cgroup).join(file))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enough() -> Limits {
        Limits {
            descriptors: 1024,
            processes: Some((4096, 100)),
            memory: Some((4 << 30, "a cgroup".to_owned())),
        }
    }

    #[test]
    fn what_is_too_low_is_named_with_its_remedy() {
        assert_eq!(judge(&enough(), true), Ok(()));
        let with = |change: fn(&mut Limits)| {
            let mut limits = enough();
            change(&mut limits);
            limits
        };
        for (limits, expected) in [
            (
                with(|limits| limits.descriptors = 20),
                "20 file descriptors, and a run needs 256: raise the hard limit",
            ),
            (
                with(|limits| limits.processes = Some((200, 150))),
                "200 processes and threads, 150 of them in use",
            ),
            (
                with(|limits| limits.memory = Some((64 << 20, "/x".to_owned()))),
                "64 MiB of memory (/x)",
            ),
        ] {
            let error = judge(&limits, true).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        // The servers of a remote cluster do not use this machine's memory.
        assert_eq!(
            judge(
                &with(|limits| limits.memory = Some((64 << 20, String::new()))),
                false
            ),
            Ok(())
        );
    }

    #[test]
    fn the_lowest_limit_of_all_cgroups_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "67108864\n");
        let lowest = |own: &str| lowest_memory(own, root.path()).map(|(limit, _)| limit);
        assert_eq!(lowest("0::/a/b\n"), Some(67_108_864));
        assert_eq!(lowest("0::/\n"), None);
        // cgroup v1, in a container: the path is the host's.
        write("memory/memory.limit_in_bytes", "134217728\n");
        assert_eq!(
            lowest("9:cpu,cpuacct:/x\n8:memory:/docker/123\n"),
            Some(134_217_728)
        );
    }
}
