//! One layer, applied to a root file system: its entries in order, and its whiteouts, which remove what lower
//! layers put there (OCI image specification, "Representing Changes").
//!
//! Ownership and extended attributes are kept when this process is root. When it is not, everything belongs to
//! whoever unpacks, extended attributes that the kernel refuses are left out, and devices cannot be made.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::sys::stat::{SFlag, makedev};
use tar::{Entry, EntryType};

use super::confined::{Attributes, Confined, Place};
use super::error::ImageError;

/// The prefix of an entry that removes the entry named by the rest.
const WHITEOUT: &str = ".wh.";
/// The entry that removes everything that lower layers have in its folder.
const OPAQUE: &str = ".wh..wh..opq";
/// The prefix of what AUFS keeps for itself.
const AUFS_METADATA: &str = ".wh..wh.";
/// How PAX headers carry extended attributes.
const XATTR_RECORD: &str = "SCHILY.xattr.";

/// A layer being applied.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    digest: &'a str,
    root: &'a Confined,
    keep_owners: bool,
    /// What this layer itself has put there: its whiteouts do not touch that.
    written: HashSet<PathBuf>,
    /// Folders get their times last, because writing into them changes them.
    folder_times: Vec<(PathBuf, u64)>,
}

impl<'a> Layer<'a> {
    pub(super) fn new(digest: &'a str, root: &'a Confined, keep_owners: bool) -> Self {
        Self {
            digest,
            root,
            keep_owners,
            written: HashSet::new(),
            folder_times: Vec::new(),
        }
    }

    /// Applies the layer whose uncompressed tar stream is `content`.
    pub(super) fn apply(mut self, content: impl Read) -> Result<(), ImageError> {
        let mut archive = tar::Archive::new(content);
        let entries = archive
            .entries()
            .map_err(|error| self.fail(Path::new("(start)"), &error))?;
        for entry in entries {
            let mut entry = entry.map_err(|error| self.fail(Path::new("(header)"), &error))?;
            let path = entry
                .path()
                .map_err(|error| self.fail(Path::new("(path)"), &error))?
                .into_owned();
            self.entry(&mut entry, &path)
                .map_err(|error| self.fail(&path, &error))?;
        }
        for (path, mtime) in &self.folder_times {
            let place = self.root.place(path).map_err(|error| self.fail(path, &error))?;
            // A later whiteout of this very layer cannot remove it, but a later entry may have replaced it.
            if let Some(place) = place.filter(Place::is_folder) {
                place.set_mtime(*mtime).map_err(|error| self.fail(path, &error))?;
            }
        }
        Ok(())
    }

    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &Path) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        // The root folder itself needs no entry; what it should look like is decided by who mounts it.
        let Some(place) = self.root.place(path)? else {
            return Ok(());
        };
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(path, &place, name, hidden);
        }
        let mut attributes = self.attributes(entry)?;
        match kind {
            EntryType::Directory => {
                if !self.keep_owners {
                    // Images have folders that nobody may write into (/usr of UBI): nobody but root, who unpacks.
                    attributes.mode |= 0o700;
                }
                place.write_folder(attributes)?;
                self.folder_times.push((path.to_owned(), attributes.mtime));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                place.write_file(&mut *entry, attributes)?;
            }
            EntryType::Symlink => place.write_symlink(&link_target(entry)?, attributes)?,
            EntryType::Link => {
                let target = self
                    .root
                    .place(&link_target(entry)?)?
                    .ok_or(io::ErrorKind::InvalidInput)?;
                place.write_hard_link(&target)?;
            }
            EntryType::Fifo => place.write_node(SFlag::S_IFIFO, 0, attributes)?,
            EntryType::Char => place.write_node(SFlag::S_IFCHR, device(entry)?, attributes)?,
            EntryType::Block => place.write_node(SFlag::S_IFBLK, device(entry)?, attributes)?,
            other => return Err(invalid(format!("entries of type {other:?} are not supported"))),
        }
        if kind != EntryType::Link {
            self.extended_attributes(entry, &place)?;
        }
        self.written.extend(normal_ancestors(path));
        Ok(())
    }

    fn whiteout(&self, path: &Path, place: &Place, name: &str, hidden: &str) -> io::Result<()> {
        if name == OPAQUE {
            let folder = path.parent().unwrap_or(Path::new(""));
            return self.remove_lower(&strip(folder), &place.folder());
        }
        if name.starts_with(AUFS_METADATA) {
            return Ok(());
        }
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(invalid("a whiteout must name an entry of its folder".to_owned()));
        }
        if self.written.contains(&strip(&path.with_file_name(hidden))) {
            return Ok(());
        }
        place.sibling(hidden.as_ref()).clear()
    }

    /// Removes from a folder all that this layer has not written itself. `opened` goes through a descriptor of
    /// the folder; what is below it is only ever descended into when it is a real folder.
    fn remove_lower(&self, folder: &Path, opened: &Path) -> io::Result<()> {
        for child in fs::read_dir(opened)? {
            let child = child?;
            let path = folder.join(child.file_name());
            let is_folder = child.file_type()?.is_dir();
            match (self.written.contains(&path), is_folder) {
                (true, true) => self.remove_lower(&path, &child.path())?,
                (true, false) => {}
                (false, true) => fs::remove_dir_all(child.path())?,
                (false, false) => fs::remove_file(child.path())?,
            }
        }
        Ok(())
    }

    fn attributes<R: Read>(&self, entry: &Entry<'_, R>) -> io::Result<Attributes> {
        let header = entry.header();
        let id = |id: u64| u32::try_from(id).map_err(|_| invalid(format!("{id} is no user or group")));
        let owner = if self.keep_owners {
            Some((id(header.uid()?)?, id(header.gid()?)?))
        } else {
            None
        };
        Ok(Attributes {
            mode: header.mode()?,
            owner,
            mtime: header.mtime()?,
        })
    }

    fn extended_attributes<R: Read>(&self, entry: &mut Entry<'_, R>, place: &Place) -> io::Result<()> {
        let Some(records) = entry.pax_extensions()? else {
            return Ok(());
        };
        for record in records {
            let record = record?;
            let Some(name) = record.key().ok().and_then(|key| key.strip_prefix(XATTR_RECORD)) else {
                continue;
            };
            if let Err(error) = xattr::set(place.path(), name, record.value_bytes()) {
                if self.keep_owners {
                    return Err(error);
                }
                tracing::debug!(name, %error, "an extended attribute was left out: this process is not root");
            }
        }
        Ok(())
    }

    fn fail(&self, path: &Path, error: &io::Error) -> ImageError {
        ImageError::Entry {
            layer: self.digest.to_owned(),
            entry: path.display().to_string(),
            problem: error.to_string(),
        }
    }
}

fn link_target<R: Read>(entry: &Entry<'_, R>) -> io::Result<PathBuf> {
    let target = entry.link_name()?;
    Ok(target
        .ok_or_else(|| invalid("a link without a target".to_owned()))?
        .into_owned())
}

fn device<R: Read>(entry: &Entry<'_, R>) -> io::Result<u64> {
    let header = entry.header();
    let (major, minor) = (header.device_major()?, header.device_minor()?);
    Ok(makedev(
        u64::from(major.unwrap_or(0)),
        u64::from(minor.unwrap_or(0)),
    ))
}

/// The path itself and every folder that it is in.
fn normal_ancestors(path: &Path) -> Vec<PathBuf> {
    strip(path)
        .ancestors()
        .filter(|p| !p.as_os_str().is_empty())
        .map(Path::to_owned)
        .collect()
}

/// The path as [`Confined`] understands it: relative, without `.`.
fn strip(path: &Path) -> PathBuf {
    path.components()
        .filter(|c| matches!(c, std::path::Component::Normal(_)))
        .collect()
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
