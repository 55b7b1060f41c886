//! Temporary folders inside the store. They are on the store's file system, so that a rename moves
//! finished files into place. Their owner locks them, so that folders of a killed process are
//! recognised and removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::{ImageError, IoContext as _};

/// A folder for this process. Removed when dropped, or by the next process that opens the store.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// Held but never read: the lock marks the folder as in use.
    _lock: File,
}

impl Scratch {
    /// Creates a folder under `parent`, which must exist.
    pub(super) fn create(parent: &Path) -> Result<Self, ImageError> {
        // Until its lock is held, a new folder looks like one that a killed process left behind.
        let _guard = hold(&parent.join("lock"))?;
        let path = parent.join(uuid::Uuid::new_v4().to_string());
        fs::create_dir(&path).doing("create", &path)?;
        let lock = File::open(&path).doing("open", &path)?;
        lock.lock().doing("lock", &path)?;
        Ok(Self { path, _lock: lock })
    }

    /// Returns an unused file name in the folder.
    pub(super) fn fresh(&self) -> PathBuf {
        self.path.join(uuid::Uuid::new_v4().to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a temporary folder was left behind");
        }
    }
}

/// Removes folders under `parent` if their owner has died. Returns the number of removed folders.
pub(super) fn remove_stale(parent: &Path) -> Result<usize, ImageError> {
    let _guard = hold(&parent.join("lock"))?;
    let mut removed = 0;
    for entry in fs::read_dir(parent).doing("list", parent)? {
        let path = entry.doing("list", parent)?.path();
        // The folder may have vanished in the meantime, because its owner has finished.
        let Ok(folder) = File::open(&path) else { continue };
        if path.is_dir() && folder.try_lock().is_ok() && fs::remove_dir_all(&path).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Waits for the lock on the file at `path` and takes it. Dropping the file or the end of the
/// process releases the lock.
pub(super) fn hold(path: &Path) -> Result<File, ImageError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .doing("open", path)?;
    file.lock().doing("lock", path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_kept_and_one_left_behind_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let in_use = Scratch::create(parent.path()).unwrap();
        fs::write(in_use.fresh(), "half a blob").unwrap();
        let left_behind = parent.path().join("of-a-killed-process");
        fs::create_dir(&left_behind).unwrap();
        fs::write(left_behind.join("rest"), "").unwrap();

        assert_eq!(remove_stale(parent.path()).unwrap(), 1);

        assert!(in_use.path.is_dir());
        assert!(!left_behind.exists());
    }

    #[test]
    fn dropping_removes_the_folder() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(parent.path()).unwrap();
        let path = scratch.path.clone();
        drop(scratch);
        assert!(!path.exists());
    }
}
