//! A folder that no path leads out of. Paths are resolved by the kernel as if the folder were the root
//! (`openat2`, RESOLVE_IN_ROOT), so `..`, absolute symbolic links and links planted by an earlier entry all stay
//! inside, without a race between looking and doing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};

/// The folder, opened.
#[derive(Debug)]
pub(super) struct Confined {
    root: File,
}

/// Where an entry goes: its folder, opened, and its name in there.
#[derive(Debug)]
pub(super) struct Place {
    folder: OwnedFd,
    name: OsString,
}

/// Who owns an entry, what may be done with it, and when it was last changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    /// `None` leaves the entry to whoever unpacks it.
    pub(super) owner: Option<(u32, u32)>,
    /// Seconds since 1970.
    pub(super) mtime: u64,
}

impl Confined {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: File::open(root)?,
        })
    }

    /// Where `path` is to be written; the folders on the way are made if they are missing.
    ///
    /// `None` for the root itself.
    pub(super) fn place(&self, path: &Path) -> io::Result<Option<Place>> {
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

    /// Opens a folder under the root, making it and its parents if they are missing.
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

    /// Opens a folder under the root.
    pub(super) fn existing_folder(&self, path: &Path) -> io::Result<OwnedFd> {
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
    /// A path to the entry that goes through the opened folder, for calls that take nothing else. Its last
    /// component is never followed by the calls that it is used with.
    pub(super) fn path(&self) -> PathBuf {
        path_of(&self.folder).join(&self.name)
    }

    /// Another entry of the same folder.
    pub(super) fn sibling(&self, name: &OsStr) -> Self {
        Self {
            folder: self.folder.try_clone().expect("descriptors can be duplicated"),
            name: name.to_owned(),
        }
    }

    /// The folder that the entry is in.
    pub(super) fn folder(&self) -> PathBuf {
        path_of(&self.folder)
    }

    /// Whether a folder is there already (and not a link to one).
    pub(super) fn is_folder(&self) -> bool {
        self.path()
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_dir())
    }

    /// Removes whatever is there.
    pub(super) fn clear(&self) -> io::Result<()> {
        let path = self.path();
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
            Ok(_) => std::fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write_folder(&self, attributes: Attributes) -> io::Result<()> {
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

    pub(super) fn write_file(&self, mut content: impl io::Read, attributes: Attributes) -> io::Result<()> {
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

    pub(super) fn write_symlink(&self, target: &Path, attributes: Attributes) -> io::Result<()> {
        self.clear()?;
        symlinkat(target, &self.folder, self.name.as_os_str())?;
        self.set_owner(attributes.owner)?;
        self.set_mtime(attributes.mtime)
    }

    /// Makes the entry another name of `target`. A symbolic link is linked itself, not followed.
    pub(super) fn write_hard_link(&self, target: &Self) -> io::Result<()> {
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

    /// Makes a device or a named pipe.
    pub(super) fn write_node(&self, kind: SFlag, device: u64, attributes: Attributes) -> io::Result<()> {
        self.clear()?;
        let mode = Mode::from_bits_truncate(attributes.mode & 0o7777);
        mknodat(&self.folder, self.name.as_os_str(), kind, mode, device)?;
        self.set_owner(attributes.owner)?;
        self.set_mtime(attributes.mtime)
    }

    pub(super) fn set_mtime(&self, mtime: u64) -> io::Result<()> {
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

/// Owner first: changing it clears the set-user-ID bit that the mode may hold.
fn set_attributes(file: impl AsFd, attributes: Attributes) -> io::Result<()> {
    if let Some((uid, gid)) = attributes.owner {
        fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(fchmod(&file, Mode::from_bits_truncate(attributes.mode & 0o7777))?)
}

fn path_of(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// The path without a leading `/` and without `.`. Nothing needs `..` in a layer, so it is refused rather than
/// interpreted.
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
