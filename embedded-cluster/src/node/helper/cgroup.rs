//! Keeping libcontainer away from cgroups, and memory limits where this machine's cgroups allow them. CPU limits are not enforced: two containers that
//! share a core already disturb timings more than a quota would.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

const ROOT: &str = "/sys/fs/cgroup";

/// libcontainer insists on a cgroup per container, in every controller it finds, and fails where it may not
/// write. None of that is wanted: joining a dozen v1 hierarchies costs more than everything else of a start
/// (each move waits for an RCU grace period), and a run must not need cgroups at all. In the calling process's
/// own mount namespace an empty tmpfs takes their place, which reads as "version 1, no controllers".
pub(super) fn hide(container: &str) -> io::Result<()> {
    if !Path::new(ROOT).is_dir() {
        return Ok(());
    }
    let locked = match umount2(ROOT, MntFlags::MNT_DETACH) {
        Ok(()) => Vec::new(),
        // Mounts that a user namespace inherited can be covered, but not removed: they stay listed.
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

/// Mount points of version 1 controllers.
fn controllers() -> io::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let of_type = mounts.lines().filter(|line| line.contains(" - cgroup "));
    Ok(of_type
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .collect())
}

/// A controller that is listed but covered gets the files that libcontainer writes to when it joins.
fn pretend(controller: &Path, container: &str) -> io::Result<()> {
    // libcontainer's name for a container whose configuration names no cgroup.
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

/// Moves the calling process, and so the container it is about to create, into a cgroup of its own with this
/// limit. A machine that does not allow it runs the container without a limit, and says so in its log.
pub(super) fn limit_memory(container: &str, bytes: u64) {
    let result = if Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
        join(
            &Path::new("/sys/fs/cgroup/memory").join(name(container)),
            "memory.limit_in_bytes",
            bytes,
        )
    } else {
        join(
            &Path::new("/sys/fs/cgroup").join(name(container)),
            "memory.max",
            bytes,
        )
    };
    if let Err(error) = result {
        eprintln!("memory limit of container {container} is not enforced here: {error}");
    }
}

/// Removes what [`limit_memory`] made; an empty cgroup is all that is left of it then.
pub(crate) fn remove(container: &str) {
    for root in ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"] {
        // Most containers have none.
        let _ = fs::remove_dir(Path::new(root).join(name(container)));
    }
}

/// Whether the kernel killed a process of the container for want of memory.
pub(crate) fn was_out_of_memory(container: &str) -> bool {
    ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].iter().any(|root| {
        let directory = Path::new(root).join(name(container));
        ["memory.oom_control", "memory.events"].iter().any(|file| {
            let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
            text.lines().any(|line| {
                line.strip_prefix("oom_kill ")
                    .is_some_and(|count| count.trim() != "0")
            })
        })
    })
}

fn join(directory: &Path, file: &str, bytes: u64) -> io::Result<()> {
    fs::create_dir(directory)?;
    fs::write(directory.join(file), bytes.to_string())?;
    fs::write(directory.join("cgroup.procs"), std::process::id().to_string())
}

fn name(container: &str) -> String {
    format!("embedded-{container}")
}
