//! Traces of a run on this machine, and the ones that remain after its end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

/// The processes of a run, and their cgroups.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// Processes with their start times, because process IDs are reused.
    processes: Vec<(Pid, u64)>,
    cgroups: BTreeSet<PathBuf>,
}

impl Traces {
    /// Records everything that `program` has started, in all namespaces.
    pub(super) fn of(program: Pid) -> Self {
        let own = cgroups_of(program);
        let mut traces = Self::default();
        for pid in descendants(program) {
            if let Some(start) = start_time(pid) {
                traces.processes.push((pid, start));
                traces.cgroups.extend(cgroups_of(pid).difference(&own).cloned());
            }
        }
        traces
    }

    /// Returns the remaining traces once they are gone, or after `limit`.
    pub(super) fn left(&self, limit: Duration) -> Vec<String> {
        let started = Instant::now();
        loop {
            let left = self.left_now();
            if left.is_empty() || started.elapsed() > limit {
                return left;
            }
            std::thread::yield_now();
        }
    }

    fn left_now(&self) -> Vec<String> {
        let processes = self
            .processes
            .iter()
            .filter(|(pid, start)| start_time(*pid) == Some(*start));
        let processes = processes.map(|(pid, _)| format!("process {pid} ({}) is left", name(*pid)));
        let cgroups = self.cgroups.iter().filter(|cgroup| cgroup.exists());
        let cgroups = cgroups.map(|cgroup| format!("cgroup {} is left", cgroup.display()));
        processes.chain(cgroups).collect()
    }
}

/// Possible traces on the machine that no process owns.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Host {
    mounts: BTreeSet<String>,
    interfaces: BTreeSet<String>,
}

impl Host {
    pub(super) fn look() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let interfaces = std::fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten();
        Self {
            mounts: mounts.lines().map(str::to_owned).collect(),
            interfaces: interfaces
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect(),
        }
    }

    /// Returns the things that appeared since.
    pub(super) fn new_since(&self) -> Vec<String> {
        let now = Self::look();
        let mounts = now
            .mounts
            .difference(&self.mounts)
            .map(|mount| format!("mount {mount} is left"));
        let interfaces = now.interfaces.difference(&self.interfaces);
        let interfaces = interfaces.map(|interface| format!("interface {interface} is left"));
        mounts.chain(interfaces).collect()
    }
}

/// Lists the files in a folder, at any depth.
pub(super) fn files_in(folder: &Path) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.display().to_string());
            }
        }
    }
    found.into_iter()
}

/// Lists the processes that a process has started.
pub(super) fn children(pid: Pid) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let pids = lists.flat_map(|list| {
        let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.map(Pid::from_raw).collect::<Vec<_>>()
    });
    pids.collect()
}

/// Lists the processes below a process, without itself.
pub(super) fn descendants(pid: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        let below = children(parent);
        parents.extend(&below);
        found.extend(below);
    }
    found
}

/// Returns field 22 of `/proc/PID/stat` for a process that has not ended.
fn start_time(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1;
    let mut fields = fields.split_whitespace();
    // A zombie has ended; only its parent has not read its status.
    fields.next().filter(|state| !matches!(*state, "Z" | "X"))?;
    fields.nth(18)?.parse().ok()
}

fn name(pid: Pid) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// Returns the folders of a process's cgroups.
fn cgroups_of(pid: Pid) -> BTreeSet<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let folders = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        // The root cgroup is shared by all.
        if path == "/" {
            return None;
        }
        let root = Path::new("/sys/fs/cgroup").join(controllers.trim_start_matches("name="));
        Some(root.join(path.trim_start_matches('/')))
    });
    folders.collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_is_left_is_named_until_it_is_gone() {
        let own = Pid::from_raw(i32::try_from(std::process::id()).expect("a process ID fits a pid_t"));
        let mut child = Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep is everywhere");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process ID fits a pid_t"));
        let mut traces = Traces::of(own);
        traces.processes.retain(|(process, _)| *process == pid);
        let left = traces.left(Duration::ZERO);
        assert!(left.len() == 1 && left[0].contains("sleep"), "{left:?}");
        child.kill().expect("it is running");
        assert_eq!(traces.left(Duration::from_secs(10)), Vec::<String>::new());
        child.wait().expect("it has ended");
    }
}
