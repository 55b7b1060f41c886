//! Isolation of libcontainer from cgroups, and memory limits where this machine's cgroups allow
//! them. CPU limits are not enforced: two containers that share a core already disturb timings more
//! than a quota would.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

const ROOT: &str = "/sys/fs/cgroup";

/// Hides the machine's cgroups from libcontainer. libcontainer insists on a cgroup per container in
/// every controller it finds, and fails where it may not write. Joining a dozen v1 hierarchies
/// costs more than the rest of a start. Each move waits for an RCU grace period. A run must also
/// work without any cgroups. An empty tmpfs in the calling process's mount namespace replaces them,
/// which reads as "version 1, no controllers".
pub(super) fn hide(container: &str) -> io::Result<()> {
    if !Path::new(ROOT).is_dir() {
        return Ok(());
    }
    let locked = match umount2(ROOT, MntFlags::MNT_DETACH) {
        Ok(()) => Vec::new(),
        // Mounts that a user namespace inherited can be covered but not removed: they stay listed.
        Err(Errno::EINVAL | Errno::EPERM) => controllers()?,
        Err(error) => return Err(error.into()),
    };
    mount(
        Some("tmpfs"),
        ROOT,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=256k"),
    )?;
    locked
        .iter()
        .try_for_each(|controller| pretend(controller, container))
}

/// Returns the mount points of version 1 controllers.
fn controllers() -> io::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let of_type = mounts.lines().filter(|line| line.contains(" - cgroup "));
    Ok(of_type
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .collect())
}

/// Creates the files that libcontainer writes to when it joins a controller that is listed but
/// covered.
fn pretend(controller: &Path, container: &str) -> io::Result<()> {
    // libcontainer uses this name for a container whose configuration names no cgroup.
    let group = controller.join(format!(":youki:{container}"));
    fs::create_dir_all(&group)?;
    fs::write(group.join("cgroup.procs"), "")?;
    for directory in [controller, &group] {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fs::write(directory.join(file), "0")?;
        }
    }
    Ok(())
}

/// The cgroup of a container with a memory limit, in its cluster's directory. The directory's name
/// identifies the cluster. The next cluster thus recognises and removes the directories of a killed
/// one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// The directory of the cluster.
    cluster: String,
    container: String,
}

/// The prefix of the names of clusters' directories, before the ID and start time of their
/// supervisor.
const CLUSTER_PREFIX: &str = "embedded-cluster-";

/// The memory controller of version 1, and the root of version 2. Only one of them accepts a memory
/// limit.
const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup/memory", ROOT];

impl Group {
    pub(crate) fn new(cluster: &str, container: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            container: container.to_owned(),
        }
    }

    /// Moves the calling process, and so the container it is about to create, into the group with
    /// this limit. If the machine does not allow it, logs this and runs the container without a
    /// limit.
    pub(super) fn limit_memory(&self, bytes: u64) {
        let [v1, v2] = HIERARCHIES.map(Path::new);
        let result = if v1.join("memory.limit_in_bytes").exists() {
            self.join(v1, "memory.limit_in_bytes", bytes)
        } else {
            self.join(v2, "memory.max", bytes)
        };
        if let Err(error) = result {
            eprintln!(
                "memory limit of container {} is not enforced here: {error}",
                self.container
            );
        }
    }

    fn join(&self, hierarchy: &Path, file: &str, bytes: u64) -> io::Result<()> {
        let cluster = hierarchy.join(&self.cluster);
        fs::create_dir_all(&cluster)?;
        // Version 2 passes a controller on only if this file says so. Version 1 has no such file.
        let controllers = cluster.join("cgroup.subtree_control");
        if controllers.exists() {
            fs::write(controllers, "+memory")?;
        }
        let group = cluster.join(&self.container);
        fs::create_dir(&group)?;
        fs::write(group.join(file), bytes.to_string())?;
        fs::write(group.join("cgroup.procs"), std::process::id().to_string())
    }

    /// Removes the group, which must have no processes any more.
    pub(crate) fn remove(&self) {
        for directory in self.directories() {
            // Most containers have no group.
            let _ = fs::remove_dir(directory);
        }
    }

    /// Returns true if the kernel killed a process of the container because it was out of memory.
    pub(crate) fn was_out_of_memory(&self) -> bool {
        self.directories().any(|directory| {
            ["memory.oom_control", "memory.events"].iter().any(|file| {
                let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
                text.lines().any(|line| {
                    line.strip_prefix("oom_kill ")
                        .is_some_and(|count| count.trim() != "0")
                })
            })
        })
    }

    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        HIERARCHIES
            .map(|root| Path::new(root).join(&self.cluster).join(&self.container))
            .into_iter()
    }
}

/// Returns the directory name for the groups of the cluster whose supervisor is this process.
pub(crate) fn of_this_cluster() -> String {
    let pid = std::process::id();
    let started = start_time(pid).unwrap_or_default();
    format!("{CLUSTER_PREFIX}{pid}-{started}")
}

/// Removes the groups of a cluster that is gone.
pub(crate) fn remove_cluster(name: &str) {
    for root in HIERARCHIES {
        remove_folder(&Path::new(root).join(name));
    }
}

/// Removes the groups of clusters whose supervisor no longer runs. Such clusters were killed before
/// they could clean up.
pub(crate) fn sweep() {
    for root in HIERARCHIES {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(is_left_behind) {
                remove_folder(&entry.path());
            }
        }
    }
}

/// Returns true if this is the name of a cluster's directory and its supervisor is gone.
fn is_left_behind(name: &str) -> bool {
    let parts = name
        .strip_prefix(CLUSTER_PREFIX)
        .and_then(|rest| rest.split_once('-'));
    let Some((Ok(pid), Ok(started))) = parts.map(|(pid, started)| (pid.parse(), started.parse::<u64>()))
    else {
        return false;
    };
    start_time(pid) != Some(started)
}

/// Removes a cluster's directory with its groups. A group that has processes stays: the kernel
/// refuses its removal.
fn remove_folder(cluster: &Path) {
    let groups = fs::read_dir(cluster).into_iter().flatten().flatten();
    for group in groups.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let _ = fs::remove_dir(group.path());
    }
    let _ = fs::remove_dir(cluster);
}

/// Returns the start time of a process in clock ticks after boot: field 22 of `/proc/PID/stat`.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
    Some(process.stat().ok()?.starttime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_cluster_left_is_left_behind() {
        let own = of_this_cluster();
        assert!(own.starts_with(CLUSTER_PREFIX), "{own}");
        assert!(!is_left_behind(&own), "{own}");
        let (name, started) = own.rsplit_once('-').unwrap();
        let later: u64 = started.parse::<u64>().unwrap() + 1;
        assert!(
            is_left_behind(&format!("{name}-{later}")),
            "of a recycled process ID"
        );
        assert!(is_left_behind(&format!("{CLUSTER_PREFIX}{}-1", u32::MAX)));
        for other in [
            "user.slice",
            "embedded-cluster-",
            "embedded-cluster-x-y",
            "docker",
        ] {
            assert!(!is_left_behind(other), "{other}");
        }
    }
}
