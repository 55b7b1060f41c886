//! Memory limits, where this machine's cgroups allow them. CPU limits are not enforced: two containers that
//! share a core already disturb timings more than a quota would.

use std::fs;
use std::io;
use std::path::Path;

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
