//! `subPath`: a directory or file inside a volume. The containers that share the volume can change
//! it at any time.
//!
//! The kernel resolves the path beneath the volume (`openat2`, RESOLVE_BENEATH). A link out of the
//! volume is therefore refused before anything is created. The container's helper resolves it again
//! in its mount namespace and mounts the opened file. Nothing can replace it in between.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};
use serde::{Deserialize, Serialize};

/// Number of lookup attempts. The kernel aborts a lookup beneath a directory when something is
/// renamed meanwhile. Only a container that renames files all the time fails every attempt.
const ATTEMPTS: u32 = 128;

/// A part of a volume that a container mounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubPath {
    /// The volume's directory on the node.
    pub(crate) volume: PathBuf,
    /// The path in the volume: relative, without `..`.
    pub(crate) path: PathBuf,
}

impl SubPath {
    /// Checks the path, and creates the directory if nothing exists there.
    ///
    /// # Errors
    /// Fails with the kubelet's text for `CreateContainerConfigError`.
    pub(super) fn prepare(volume: &Path, path: &str) -> Result<Self, String> {
        let mut plain = PathBuf::new();
        for part in Path::new(path).components() {
            match part {
                Component::Normal(name) => plain.push(name),
                Component::CurDir => {}
                _ => {
                    return Err(format!(
                        "subPath {path:?} must be relative and must not contain '..'"
                    ));
                }
            }
        }
        let failed = |error: io::Error| match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
            Errno::EXDEV | Errno::ELOOP => format!("subPath {path:?} leads out of its volume"),
            _ => format!("failed to prepare subPath {path:?}: {error}"),
        };
        let root = File::open(volume).map_err(failed)?;
        make(&root, &plain).map_err(failed)?;
        Ok(Self {
            volume: volume.to_owned(),
            path: plain,
        })
    }

    /// Mounts the sub path at `target`, which is created for it.
    pub(crate) fn mount_at(&self, target: &Path) -> io::Result<()> {
        let opened = open_beneath(&File::open(&self.volume)?, &self.path)?;
        let source = format!("/proc/self/fd/{}", opened.as_raw_fd());
        if fs::metadata(&source)?.is_dir() {
            fs::create_dir_all(target)?;
        } else {
            File::create(target)?;
        }
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        Ok(mount(
            Some(source.as_str()),
            target,
            None::<&str>,
            flags,
            None::<&str>,
        )?)
    }
}

/// Opens `path` under the volume. A missing directory gets the mode and the group of the volume, as
/// in the kubelet.
fn make(root: &File, path: &Path) -> io::Result<OwnedFd> {
    match open_beneath(root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = make(root, path.parent().unwrap_or(Path::new("")))?;
    match mkdirat(&parent, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) => {}
        // Another container of the pod was faster, or a link leads to nothing.
        Err(Errno::EEXIST) => return open_beneath(root, path),
        Err(error) => return Err(error.into()),
    }
    let folder = open_beneath(root, path)?;
    let (like, own) = (root.metadata()?, format!("/proc/self/fd/{}", folder.as_raw_fd()));
    std::os::unix::fs::chown(&own, None, Some(like.gid()))?;
    fs::set_permissions(&own, Permissions::from_mode(like.mode() & 0o7777))?;
    Ok(folder)
}

fn open_beneath(root: &File, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    for _ in 1..ATTEMPTS {
        match openat2(root, path, how) {
            Err(Errno::EAGAIN) => {}
            result => return Ok(result?),
        }
    }
    openat2(root, path, how).map_err(|error| match error {
        // EAGAIN here does not mean that the machine lacks a resource.
        Errno::EAGAIN => io::Error::other("a rename interrupted every lookup of the path"),
        error => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_sub_path_stays_inside_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("volume"), dir.path().join("outside"));
        for folder in [&volume, &outside] {
            fs::create_dir(folder).unwrap();
        }
        assert!(SubPath::prepare(&volume, "../x").is_err());
        assert!(SubPath::prepare(&volume, "/x").is_err());
        for (link, target) in [
            ("absolute", outside.as_path()),
            ("relative", Path::new("../outside")),
        ] {
            symlink(target, volume.join(link)).unwrap();
            for path in [link.to_owned(), format!("{link}/a/b")] {
                let error = SubPath::prepare(&volume, &path).unwrap_err();
                assert!(error.contains("leads out of its volume"), "{path}: {error}");
            }
        }
        assert_eq!(
            fs::read_dir(&outside).unwrap().count(),
            0,
            "made before it was refused"
        );
        symlink("nowhere", volume.join("dangling")).unwrap();
        assert!(SubPath::prepare(&volume, "dangling/a").is_err());
        assert!(!volume.join("nowhere").exists());
    }

    #[test]
    fn a_missing_sub_path_is_made_like_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o2775)).unwrap();
        let made = SubPath::prepare(dir.path(), "a/./b").unwrap();
        assert_eq!(made.path, Path::new("a/b"));
        for folder in ["a", "a/b"] {
            let mode = fs::metadata(dir.path().join(folder)).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o2775, "{folder}");
        }
    }

    #[test]
    fn links_that_stay_inside_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("..version")).unwrap();
        fs::write(dir.path().join("..version/key"), "value").unwrap();
        symlink("..version", dir.path().join("..data")).unwrap();
        symlink("..data/key", dir.path().join("key")).unwrap();
        assert!(SubPath::prepare(dir.path(), "key").is_ok());
    }
}
