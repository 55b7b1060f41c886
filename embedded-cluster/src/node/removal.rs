//! Removal of the files that containers have left. There may be millions of files, or directories
//! nested thousands deep. An ordinary recursive removal needs a descriptor and a stack frame for
//! each level.
//!
//! Each directory's content is moved into the directory that is to be removed, one level at a time.
//! The depth therefore does not matter, and three descriptors are enough.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Removes a directory with everything in it, or a file; succeeds if nothing exists. May take long,
/// so async workers must not call it.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let Some(root) = folder(AT_FDCWD, path.as_os_str())? else {
        return Ok(());
    };
    let mut moved = 0;
    loop {
        while empty(root.as_fd(), &mut moved)? {}
        match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            // Another process adds or removes entries at the same time.
            Err(Errno::ENOTEMPTY) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes a tree on a blocking thread, and logs what cannot be removed.
pub(crate) fn remove_in_background(path: impl AsRef<Path>) {
    let path = path.as_ref().to_owned();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = remove_tree(&path) {
            tracing::warn!(path = %path.display(), %error, "failed to remove the files of an ended container or volume");
        }
    });
}

/// Removes the files of `root`. Moves the content of each of its directories up, then removes that
/// directory. Returns true if there was anything.
fn empty(root: BorrowedFd<'_>, moved: &mut u64) -> io::Result<bool> {
    let mut found = false;
    for entry in entries(root)? {
        let name = entry?.file_name();
        found = true;
        if remove_file(root, &name)? {
            continue;
        }
        let Some(inner) = folder(root, &name)? else {
            continue;
        };
        for entry in entries(inner.as_fd())? {
            let child = entry?.file_name();
            if !remove_file(inner.as_fd(), &child)? {
                move_up(inner.as_fd(), &child, root, moved)?;
            }
        }
        match unlinkat(root, name.as_os_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Removes an entry that is not a directory; returns true if it is gone.
fn remove_file(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::EISDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn move_up(from: BorrowedFd<'_>, name: &OsStr, root: BorrowedFd<'_>, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        match renameat(from, name, root, format!(".removed-{moved}").as_str()) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            // The container has used that name as well.
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens a directory, never the target of a link; returns `None` if it is gone.
fn folder(parent: impl AsFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn entries(folder: BorrowedFd<'_>) -> io::Result<fs::ReadDir> {
    fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::mkdirat;

    use super::*;

    /// Creates nested directories, deeper than any path or stack reaches.
    fn deep(root: &Path, depth: usize) {
        let mut current = folder(AT_FDCWD, root.as_os_str()).unwrap().unwrap();
        for _ in 0..depth {
            mkdirat(&current, "deeper", Mode::S_IRWXU).unwrap();
            current = folder(&current, "deeper".as_ref()).unwrap().unwrap();
        }
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // An ordinary removal would exhaust the small stack after a few hundred levels.
        deep(&tree, 3_000);
        fs::write(tree.join("file"), "x").unwrap();
        let small = std::thread::Builder::new().stack_size(64 * 1024);
        let removed = small.spawn(move || remove_tree(&tree)).unwrap().join().unwrap();
        removed.unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        for folder in [&tree, &outside, &tree.join("inner"), &tree.join(".removed-1")] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(outside.join("file"), "of the host").unwrap();
        fs::create_dir_all(tree.join("inner/more/and more")).unwrap();
        fs::write(tree.join(".removed-1/file"), "in the way").unwrap();
        for link in ["link", "inner/link", "inner/more/link"] {
            symlink(&outside, tree.join(link)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("file").exists());
        symlink(&outside, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(outside.join("file").exists() && !tree.is_symlink());
        remove_tree(&tree).unwrap();
    }
}
