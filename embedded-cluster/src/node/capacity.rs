//! Resources of this machine that pods can request.

use procfs::Current as _;

/// Returns the number of processors that this process may use.
pub(crate) fn node_cpus() -> i128 {
    std::thread::available_parallelism().map_or(1, |count| i128::try_from(count.get()).unwrap_or(1))
}

/// Returns the machine's memory in bytes.
pub(crate) fn node_memory() -> i128 {
    procfs::Meminfo::current().map_or(0, |memory| i128::from(memory.mem_total))
}
