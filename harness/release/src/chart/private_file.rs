//! Files that only `helm` reads: values and the kubeconfig, which may hold secrets.
//!
//! The files have no name in any folder. They live in memory, at most as long as this process.
//! `helm` opens them through this process's descriptors. A killed run leaves none behind.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::Value;

use super::error::ChartError;

/// A values file, which exists as long as this value.
#[derive(Debug)]
pub struct ValuesFile(PrivateFile);

impl ValuesFile {
    /// Writes `tree` as JSON, which is YAML without quoting problems.
    pub fn write(tree: &Value) -> Result<Self, ChartError> {
        PrivateFile::write(&tree.to_string()).map(Self)
    }

    /// Returns the path under which a child process opens the file.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A file without a name, which only this user's processes can open.
#[derive(Debug)]
pub(super) struct PrivateFile {
    path: PathBuf,
    _file: File,
}

impl PrivateFile {
    /// Writes `text`.
    pub(super) fn write(text: &str) -> Result<Self, ChartError> {
        let made = memfd_create("valkey-e2e", MFdFlags::MFD_CLOEXEC);
        let mut file = File::from(made.map_err(|error| ChartError::File(error.into()))?);
        // helm warns about a kubeconfig that others can read.
        file.set_permissions(Permissions::from_mode(0o600))
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(ChartError::File)?;
        // The path has this process's number in /proc. The opening process is another one and does
        // not inherit the descriptor.
        let own = std::fs::read_link("/proc/self").map_err(ChartError::File)?;
        let path = Path::new("/proc")
            .join(own)
            .join("fd")
            .join(file.as_raw_fd().to_string());
        Ok(Self { path, _file: file })
    }

    /// Returns the path under which a child process opens the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_child_reads_a_file_that_is_in_no_folder() {
        let file = ValuesFile::write(&json!({"auth": {"password": "secret"}})).unwrap();
        assert_eq!(
            file.path().metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
        let real = std::fs::read_link(file.path()).unwrap();
        assert_eq!(real, Path::new("/memfd:valkey-e2e (deleted)"));
        // Reads it twice: each reader starts at the beginning.
        for _ in 0..2 {
            let read = Command::new("cat").arg(file.path()).output().unwrap();
            assert_eq!(read.stdout, br#"{"auth":{"password":"secret"}}"#);
        }
        let path = file.path().to_owned();
        drop(file);
        assert!(std::fs::read_link(path).map_or(true, |now| now != real));
    }
}
