//! A directory that no path can leave. The kernel resolves paths as if the directory were the root
//! (`openat2`, RESOLVE_IN_ROOT). `..`, absolute symbolic links and links planted by an earlier
//! entry all stay inside. There is no race between check and use. Access to image layers, volumes
//! and files of an image goes through [`Confined`].

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};

/// The opened directory.
#[derive(Debug)]
pub(crate) struct Confined {
    root: File,
}

/// The location of an entry: its opened directory and its name there.
#[derive(Debug)]
pub(crate) struct Place {
    folder: OwnedFd,
    name: OsString,
}

/// Owner, mode and modification time of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    /// Owner and group IDs; `None` leaves the entry to the user who unpacks it.
    pub(crate) owner: Option<(u32, u32)>,
    /// Modification time in seconds since 1970.
    pub(crate) mtime: u64,
}

impl Confined {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: File::open(root)?,
        })
    }

    /// Confines further paths to a directory under the root.
    pub(crate) fn open_below(&self, path: &Path) -> io::Result<Self> {
        let folder = self.existing_folder(path)?;
        Self::open(&path_of(&folder))
    }

    /// Reads a regular file under the root, at most its first `limit` bytes.
    ///
    /// # Errors
    /// Fails for anything that is not a regular file; never waits for a named pipe or a device.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let path = normalise(path)?;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        // Opening a device or a pipe can have effects or block, so the kind is checked first.
        let entry = File::from(openat2(&self.root, &path, how)?);
        if !entry.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(format!("/proc/self/fd/{}", entry.as_raw_fd()))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Lists a directory under the root: each name, and true if the entry is itself a directory.
    pub(crate) fn entries(&self, path: &Path) -> io::Result<Vec<(OsString, bool)>> {
        let folder = self.existing_folder(&normalise(path)?)?;
        let entries = std::fs::read_dir(path_of(&folder))?;
        entries
            .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?.is_dir()))))
            .collect()
    }

    /// Changes the mode of the root itself.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.root.set_permissions(Permissions::from_mode(mode))
    }

    /// Returns the place where `path` is to be written. Creates missing directories on the way.
    ///
    /// Returns `None` for the root itself.
    pub(crate) fn place(&self, path: &Path) -> io::Result<Option<Place>> {
        let path = normalise(path)?;
        let Some(name) = path.file_name() else {
            return Ok(None);
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok(Some(Place {
            folder: self.folder(parent)?,
            name: name.to_owned(),
        }))
    }

    /// Opens a directory under the root. Creates it and its parents if they are missing.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.existing_folder(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
        match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => self.existing_folder(path),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a directory under the root.
    pub(crate) fn existing_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(openat2(&self.root, path, how)?)
    }
}

impl Place {
    /// Returns a path to the entry through the opened directory, for calls that accept only paths.
    /// Those calls never follow the path's last component.
    pub(crate) fn path(&self) -> PathBuf {
        path_of(&self.folder).join(&self.name)
    }

    /// Returns the place of another entry of the same directory.
    pub(crate) fn sibling(&self, name: &OsStr) -> Self {
        Self {
            folder: self.folder.try_clone().expect("descriptors can be duplicated"),
            name: name.to_owned(),
        }
    }

    /// Returns the directory that contains the entry.
    pub(crate) fn folder(&self) -> PathBuf {
        path_of(&self.folder)
    }

    /// Returns true if the entry is a directory (and not a link to one).
    pub(crate) fn is_folder(&self) -> bool {
        self.path()
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_dir())
    }

    /// Returns the target of a symbolic link; `None` for anything else.
    pub(crate) fn link_target(&self) -> Option<PathBuf> {
        std::fs::read_link(self.path()).ok()
    }

    /// Moves the entry to another place, atomically.
    pub(crate) fn rename_to(&self, target: &Self) -> io::Result<()> {
        Ok(renameat(
            &self.folder,
            self.name.as_os_str(),
            &target.folder,
            target.name.as_os_str(),
        )?)
    }

    /// Removes the entry, of any kind.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let path = self.path();
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
            Ok(_) => std::fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write_folder(&self, attributes: Attributes) -> io::Result<()> {
        if !self.is_folder() {
            self.clear()?;
            mkdirat(
                &self.folder,
                self.name.as_os_str(),
                Mode::from_bits_truncate(0o700),
            )?;
        }
        let folder = openat(
            &self.folder,
            self.name.as_os_str(),
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        set_attributes(&folder, attributes)
    }

    pub(crate) fn write_file(&self, mut content: impl io::Read, attributes: Attributes) -> io::Result<()> {
        self.clear()?;
        let file = openat(
            &self.folder,
            self.name.as_os_str(),
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::from_bits_truncate(0o600),
        )?;
        let mut file = File::from(file);
        io::copy(&mut content, &mut file)?;
        set_attributes(&file, attributes)?;
        self.set_mtime(attributes.mtime)
    }

    pub(crate) fn write_symlink(&self, target: &Path, attributes: Attributes) -> io::Result<()> {
        self.clear()?;
        symlinkat(target, &self.folder, self.name.as_os_str())?;
        self.set_owner(attributes.owner)?;
        self.set_mtime(attributes.mtime)
    }

    /// Makes the entry a hard link to `target`. A symbolic link is linked itself, not followed.
    pub(crate) fn write_hard_link(&self, target: &Self) -> io::Result<()> {
        self.clear()?;
        linkat(
            &target.folder,
            target.name.as_os_str(),
            &self.folder,
            self.name.as_os_str(),
            AtFlags::empty(),
        )?;
        Ok(())
    }

    /// Creates a device or a named pipe.
    pub(crate) fn write_node(&self, kind: SFlag, device: u64, attributes: Attributes) -> io::Result<()> {
        self.clear()?;
        let mode = Mode::from_bits_truncate(attributes.mode & 0o7777);
        mknodat(&self.folder, self.name.as_os_str(), kind, mode, device)?;
        self.set_owner(attributes.owner)?;
        self.set_mtime(attributes.mtime)
    }

    pub(crate) fn set_mtime(&self, mtime: u64) -> io::Result<()> {
        let time = TimeSpec::new(i64::try_from(mtime).unwrap_or(0), 0);
        let no_follow = UtimensatFlags::NoFollowSymlink;
        Ok(utimensat(
            &self.folder,
            self.name.as_os_str(),
            &time,
            &time,
            no_follow,
        )?)
    }

    fn set_owner(&self, owner: Option<(u32, u32)>) -> io::Result<()> {
        let Some((uid, gid)) = owner else { return Ok(()) };
        Ok(fchownat(
            &self.folder,
            self.name.as_os_str(),
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )?)
    }
}

/// Sets owner, mode and time. The owner comes first: changing it clears the set-user-ID bit that
/// the mode may hold.
fn set_attributes(file: impl AsFd, attributes: Attributes) -> io::Result<()> {
    if let Some((uid, gid)) = attributes.owner {
        fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(fchmod(&file, Mode::from_bits_truncate(attributes.mode & 0o7777))?)
}

fn path_of(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// Returns the path without a leading `/` and without `.`. Rejects `..`, which no layer needs.
fn normalise(path: &Path) -> io::Result<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the path has a `..` in it",
                ));
            }
        }
    }
    Ok(normal)
}
