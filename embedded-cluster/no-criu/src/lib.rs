//! The part of the crate `rust-criu` that libcontainer compiles against, for programs without
//! checkpoints.
//!
//! [`Criu::new`] always fails, so [`Criu`] has no value and its methods have no body to run.

use std::fmt;
use std::os::fd::RawFd;

/// The error that refuses every checkpoint.
#[derive(Debug)]
pub struct NoCheckpoints;

impl fmt::Display for NoCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this program is built without CRIU and makes no checkpoints")
    }
}

impl std::error::Error for NoCheckpoints {}

/// The way in which CRIU restores cgroups.
#[derive(Debug, Clone)]
#[expect(clippy::upper_case_acronyms, reason = "these are the names of the crate whose place this takes")]
pub enum CgMode {
    /// Leaves cgroups as they are.
    IGNORE,
    /// Restores none.
    NONE,
    /// Restores properties of cgroups that exist.
    PROPS,
    /// Restores properties of cgroups that CRIU made.
    SOFT,
    /// Restores all cgroups and properties.
    FULL,
    /// Restores all, and fails where a cgroup exists.
    STRICT,
    /// Follows CRIU's default.
    DEFAULT,
}

/// A session with CRIU, which does not exist here.
#[derive(Debug)]
pub enum Criu {}

macro_rules! setters {
    ($($name:ident: $type:ty),* $(,)?) => {
        $(
            /// Cannot be called: no session exists on which to set this.
            pub fn $name(&mut self, _: $type) {
                match *self {}
            }
        )*
    };
}

impl Criu {
    /// Fails always: there are no checkpoints here.
    pub fn new() -> Result<Self, NoCheckpoints> {
        Err(NoCheckpoints)
    }

    /// Cannot be called: no session exists.
    pub fn get_criu_version(&mut self) -> Result<u32, NoCheckpoints> {
        match *self {}
    }

    /// Cannot be called: no session exists to dump with.
    pub fn dump(&mut self) -> Result<(), NoCheckpoints> {
        match *self {}
    }

    /// Cannot be called: no session exists on which to set this.
    pub fn set_external_mount(&mut self, _key: String, _value: String) {
        match *self {}
    }

    setters! {
        add_external: String,
        cgroups_mode: CgMode,
        set_ext_unix_sk: bool,
        set_file_locks: bool,
        set_images_dir_fd: RawFd,
        set_leave_running: bool,
        set_link_remap: bool,
        set_log_file: String,
        set_log_level: i32,
        set_manage_cgroups: bool,
        set_orphan_pts_master: bool,
        set_pid: i32,
        set_root: String,
        set_shell_job: bool,
        set_tcp_established: bool,
        set_work_dir_fd: RawFd,
    }
}

/// Returns the key of an external namespace.
pub fn criu_ns_to_key(name: &str) -> String {
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_refused_with_the_reason() {
        let refusal = Criu::new().expect_err("nothing is checkpointed");
        assert!(refusal.to_string().contains("without CRIU"), "{refusal}");
    }
}
