//! Resident memory of the supervisor and its helpers, with a deployed release in cluster mode. The
//! memory of containers is Valkey's and does not count.
//!
//! Helpers come and go with the probes, so memory is sampled many times. The median is the cost of
//! the cluster; the peak is a short maximum. Shared pages of the executable count for each process.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::formation::Deployment;
use super::stats::median;
use super::table::{Figure, Goal, Unit};

/// An amount that a laptop with 8 GiB does not notice.
const TARGET_MIB: f64 = 100.0;

const KIB_PER_MIB: f64 = 1024.0;

/// Number and interval of samples. Together they exceed the longest probe period of the fast
/// profile.
const LOOKS: usize = 120;
const INTERVAL: Duration = Duration::from_millis(50);

const FLOOR: &str = "the supervisor's outer process, which is this executable and only waits";

/// Takes the measurement.
pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut deployment = Deployment::start(bench).await?;
    let looks = match deployment.install_and_settle().await {
        Ok(()) => look().await,
        Err(error) => Err(error),
    };
    deployment.finish().await?;
    let looks = looks?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "kibibytes of memory are far below 2^52"
    )]
    let mebibytes = |kib: u64| kib as f64 / KIB_PER_MIB;
    let sums: Vec<f64> = looks
        .iter()
        .map(|resident| mebibytes(resident.values().sum()))
        .collect();
    // The outermost process only waits for PID 1: the same executable, idle.
    let waiting: Vec<f64> = looks
        .iter()
        .filter_map(|resident| resident.values().next().copied())
        .map(mebibytes)
        .collect();
    let figure = |name, measured, target| Figure {
        name,
        unit: Unit::Mebibytes,
        measured,
        floor: median(&waiting),
        floor_is: FLOOR,
        target,
    };
    let peak = sums.iter().copied().fold(0.0, f64::max);
    Ok(vec![
        figure("supervisor memory", median(&sums), Goal::AtMost(TARGET_MIB)),
        figure("supervisor memory, peak", peak, Goal::None),
    ])
}

/// Takes many samples of the resident kibibytes of every process of the supervisor.
async fn look() -> Result<Vec<BTreeMap<u32, u64>>> {
    let executable = identity(Path::new("/proc/self")).context("this executable cannot be found")?;
    let mut ticker = tokio::time::interval(INTERVAL);
    let mut looks = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        ticker.tick().await;
        let all = processes().context("processes cannot be listed")?;
        let resident = of_supervisor(&all, std::process::id(), executable);
        ensure!(!resident.is_empty(), "the supervisor's processes cannot be found");
        looks.push(resident);
    }
    Ok(looks)
}

/// Device and inode of an executable. The path differs between mount namespaces.
type Executable = (u64, u64);

/// A process as /proc describes it.
#[derive(Debug, Clone)]
struct Process {
    parent: u32,
    executable: Executable,
    resident_kib: u64,
}

/// Returns every readable process. Omits those that end meanwhile.
fn processes() -> std::io::Result<BTreeMap<u32, Process>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let executable = identity(&entry.path()).unwrap_or_default();
        let (Some(parent), Some(resident_kib)) = (field(&status, "PPid"), field(&status, "VmRSS")) else {
            continue;
        };
        let parent = u32::try_from(parent).unwrap_or_default();
        found.insert(
            pid,
            Process {
                parent,
                executable,
                resident_kib,
            },
        );
    }
    Ok(found)
}

fn identity(process: &Path) -> std::io::Result<Executable> {
    let file = fs::metadata(process.join("exe"))?;
    Ok((file.dev(), file.ino()))
}

/// Returns a number from /proc/PID/status; sizes are in kibibytes.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the resident kibibytes of the processes below `own` with the same executable, by PID.
/// Other executables belong to containers.
fn of_supervisor(all: &BTreeMap<u32, Process>, own: u32, executable: Executable) -> BTreeMap<u32, u64> {
    let beneath = |mut pid: u32| {
        // A parent that ended between two samples is missing.
        while let Some(process) = all.get(&pid) {
            if process.parent == own {
                return true;
            }
            pid = process.parent;
        }
        false
    };
    let same = |process: &Process| process.executable == executable;
    all.iter()
        .filter(|(pid, process)| same(process) && beneath(**pid))
        .map(|(pid, process)| (*pid, process.resident_kib))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_the_status() {
        let status = "Name:\txtask\nPPid:\t12\nVmHWM:\t   99 kB\nVmRSS:\t   5120 kB\n";
        assert_eq!(field(status, "VmRSS"), Some(5_120));
        assert_eq!(field(status, "PPid"), Some(12));
        assert_eq!(field("Name:\tkthreadd\n", "VmRSS"), None);
    }

    #[test]
    fn containers_and_strangers_do_not_count() {
        let process = |parent, inode, resident_kib| Process {
            parent,
            executable: (1, inode),
            resident_kib,
        };
        let all = BTreeMap::from([
            (10, process(1, 7, 1)),
            (11, process(10, 7, 2)),
            (12, process(11, 7, 4)),
            (13, process(12, 8, 8)),
            (14, process(12, 7, 16)),
            (15, process(1, 7, 32)),
            (16, process(99, 7, 64)),
        ]);
        let resident = of_supervisor(&all, 10, (1, 7));
        assert_eq!(resident, BTreeMap::from([(11, 2), (12, 4), (14, 16)]));
    }
}
