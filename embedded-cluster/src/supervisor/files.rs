//! The limit of open files. Shells and services get 1024 by default, and the hard limit is usually
//! much higher. A cluster needs about twenty for each pod.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The least limit for a cluster with one pod and its clients.
pub(super) const FEWEST: u64 = 256;

/// The highest limit that is set, equal to that of containerd's unit, which containers inherit.
/// With a limit of a billion, as some machines have, programs that close all possible descriptors
/// would take minutes.
const MOST: u64 = 1_048_576;

/// Raises this process's limit as far as allowed. Its child processes inherit the limit.
pub(super) fn raise_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let wanted = hard.min(MOST);
    if soft < wanted
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    {
        eprintln!("the limit of open files stays at {soft}: {error}");
    }
}

/// Returns the number of files that a child of this process may open after it raises its limit.
pub(super) fn most_allowed() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard)
}
