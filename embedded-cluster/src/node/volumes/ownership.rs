//! `fsGroup`: what the kubelet does to every file of a volume that supports it.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
const DIRECTORY: u32 = 0o2110;

/// Gives everything below `path`, and itself, to the group; directories hand the group on.
pub(super) fn apply(path: &Path, group: Option<u32>, read_only: bool) -> io::Result<()> {
    match group {
        Some(group) => walk(path, group, if read_only { READ_ONLY } else { READ_WRITE }),
        None => Ok(()),
    }
}

fn walk(path: &Path, group: u32, mask: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    lchown(path, None, Some(group))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mask = if metadata.is_dir() { mask | DIRECTORY } else { mask };
    fs::set_permissions(
        path,
        fs::Permissions::from_mode(metadata.permissions().mode() & 0o7777 | mask),
    )?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), group, mask & 0o660)?;
        }
    }
    Ok(())
}
