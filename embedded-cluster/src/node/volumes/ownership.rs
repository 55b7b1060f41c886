//! `fsGroup`: the kubelet's change of ownership and mode for every file of a volume that supports
//! it.
//!
//! Containers may write to the volume at the same time (a claim that two pods share). Every entry
//! is therefore opened first, without following links, and then changed through its descriptor. A
//! link that replaces a directory changes nothing outside the volume.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, fchownat};

const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
const DIRECTORY: u32 = 0o2110;

/// The maximum depth of directories that is followed. One descriptor is held per level; a server's
/// data has two levels.
const MAX_DEPTH: usize = 256;

/// Gives `path` and everything below it to the group. Directories pass the group on to new entries.
pub(super) fn apply(path: &Path, group: Option<u32>, read_only: bool) -> io::Result<()> {
    let Some(group) = group else { return Ok(()) };
    let mask = if read_only { READ_ONLY } else { READ_WRITE };
    let root = openat(AT_FDCWD, path, ENTRY, Mode::empty())?;
    change(&root, group, mask)?;
    walk(root, group, mask)
}

/// The flags that open an entry of any kind without blocking.
const ENTRY: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A directory whose entries are being changed.
struct Level {
    folder: OwnedFd,
    entries: Vec<OsString>,
}

fn walk(root: OwnedFd, group: u32, mask: u32) -> io::Result<()> {
    let mut levels = vec![level(root)?];
    while let Some(current) = levels.last_mut() {
        let Some(name) = current.entries.pop() else {
            levels.pop();
            continue;
        };
        let entry = match openat(&current.folder, name.as_os_str(), ENTRY, Mode::empty()) {
            Ok(entry) => entry,
            // The container has just removed the entry.
            Err(Errno::ENOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        if change(&entry, group, mask)? {
            if levels.len() == MAX_DEPTH {
                return Err(io::Error::other(format!(
                    "the volume has directories nested more than {MAX_DEPTH} deep"
                )));
            }
            levels.push(level(entry)?);
        }
    }
    Ok(())
}

fn level(folder: OwnedFd) -> io::Result<Level> {
    let entries = fs::read_dir(own_path(&folder))?.map(|entry| entry.map(|entry| entry.file_name()));
    let entries = entries.collect::<io::Result<_>>()?;
    Ok(Level { folder, entries })
}

/// Changes one entry; returns true if it is a directory.
fn change(entry: &OwnedFd, group: u32, mask: u32) -> io::Result<bool> {
    fchownat(
        entry,
        "",
        None,
        Some(Gid::from_raw(group)),
        AtFlags::AT_EMPTY_PATH,
    )?;
    let mode = fstat(entry)?.st_mode;
    let kind = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFLNK {
        return Ok(false);
    }
    let folder = kind == SFlag::S_IFDIR;
    let mask = if folder { mask | DIRECTORY } else { mask };
    fs::set_permissions(own_path(entry), Permissions::from_mode(mode & 0o7777 | mask))?;
    Ok(folder)
}

/// Returns a path to exactly the entry for which the descriptor was opened.
fn own_path(entry: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", entry.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn links_of_a_volume_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("volume"), dir.path().join("outside"));
        fs::create_dir(&volume).unwrap();
        fs::create_dir(volume.join("sub")).unwrap();
        fs::write(volume.join("sub/file"), "").unwrap();
        fs::create_dir(&outside).unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o700)).unwrap();
        symlink(&outside, volume.join("link")).unwrap();
        let group = nix::unistd::getegid().as_raw();
        apply(&volume, Some(group), false).unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&volume.join("sub")) & 0o2770, 0o2770);
        assert_eq!(mode(&volume.join("sub/file")) & 0o660, 0o660);
        assert_eq!(mode(&outside), 0o700);
        symlink(&volume, dir.path().join("alias")).unwrap();
        assert!(
            apply(&dir.path().join("alias"), Some(group), false).is_err(),
            "a volume is a folder, never a link to one"
        );
    }

    #[test]
    fn a_bottomless_volume_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let deep: std::path::PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 1).collect();
        fs::create_dir_all(dir.path().join(deep)).unwrap();
        let group = nix::unistd::getegid().as_raw();
        let error = apply(dir.path(), Some(group), false).unwrap_err();
        assert!(error.to_string().contains("256 deep"), "{error}");
    }
}
