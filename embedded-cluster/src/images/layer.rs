//! Applies one layer to a root file system (OCI image specification, "Representing Changes").
//! Entries come in order. Whiteouts remove files of lower layers.
//!
//! Root keeps ownership and extended attributes. For other users:
//!
//! - all files belong to the current user
//! - extended attributes that the kernel refuses are skipped
//! - device entries fail

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::sys::stat::{SFlag, makedev};
use tar::{Entry, EntryType};

use super::error::ImageError;
use crate::confined::{Attributes, Confined, Place};

/// Prefix of a whiteout, an entry that removes the entry named by the rest.
const WHITEOUT: &str = ".wh.";
/// Name of the opaque whiteout, which removes all content of its folder from lower layers.
const OPAQUE: &str = ".wh..wh..opq";
/// Prefix of files reserved for AUFS.
const AUFS_METADATA: &str = ".wh..wh.";
/// Prefix of PAX records that hold extended attributes.
const XATTR_RECORD: &str = "SCHILY.xattr.";

/// Limits of one layer. A few kilobytes can expand to terabytes of zeros or to millions of files.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Maximum number of entries. The largest existing images have a few hundred thousand.
    entries: u64,
    /// Maximum number of bytes, unpacked.
    bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 500_000,
            bytes: 16 << 30,
        }
    }
}

/// The application of one layer.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    /// The remaining entries and bytes.
    left: Limits,
    digest: &'a str,
    root: &'a Confined,
    keep_owners: bool,
    /// Paths that this layer has written. Its whiteouts do not remove them.
    written: HashSet<PathBuf>,
    /// Times of folders. They are set last, because writing into a folder changes its time.
    folder_times: Vec<(PathBuf, u64)>,
}

impl<'a> Layer<'a> {
    pub(super) fn new(digest: &'a str, root: &'a Confined, keep_owners: bool) -> Self {
        Self {
            left: Limits::default(),
            digest,
            root,
            keep_owners,
            written: HashSet::new(),
            folder_times: Vec::new(),
        }
    }

    /// Applies the layer. `content` is its uncompressed tar stream.
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
            // A later entry of this layer may have replaced the folder. A later whiteout of this
            // layer cannot have removed it.
            if let Some(place) = place.filter(Place::is_folder) {
                place.set_mtime(*mtime).map_err(|error| self.fail(path, &error))?;
            }
        }
        Ok(())
    }

    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &Path) -> io::Result<()> {
        let Some(entries) = self.left.entries.checked_sub(1) else {
            return Err(invalid(
                "the layer has too many entries (500,000 are allowed)".to_owned(),
            ));
        };
        self.left.entries = entries;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        // The root folder exists already. The code that mounts it decides its attributes.
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
                    // Some images have read-only folders (/usr of UBI). Root can write there, other
                    // users need the permission.
                    attributes.mode |= 0o700;
                }
                place.write_folder(attributes)?;
                self.folder_times.push((path.to_owned(), attributes.mtime));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                // The size in the header is not trusted.
                let mut content = (&mut *entry).take(self.left.bytes + 1);
                place.write_file(&mut content, attributes)?;
                let Some(left) = content.limit().checked_sub(1) else {
                    place.clear()?;
                    return Err(invalid(
                        "the layer is too large (16 GiB unpacked are allowed)".to_owned(),
                    ));
                };
                self.left.bytes = left;
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

    /// Removes everything from a folder that this layer has not written. `opened` is the folder's
    /// path through a descriptor. Below it, only real folders are entered, never links.
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
        let id =
            |id: u64| u32::try_from(id).map_err(|_| invalid(format!("{id} is not a valid user or group ID")));
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

/// Returns the path and all its parent folders.
fn normal_ancestors(path: &Path) -> Vec<PathBuf> {
    strip(path)
        .ancestors()
        .filter(|p| !p.as_os_str().is_empty())
        .map(Path::to_owned)
        .collect()
}

/// Converts the path to the form that [`Confined`] expects: relative, without `.`.
fn strip(path: &Path) -> PathBuf {
    path.components()
        .filter(|c| matches!(c, std::path::Component::Normal(_)))
        .collect()
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies files of these sizes. Returns the error and the number of files written.
    fn apply(sizes: &[usize], left: Limits) -> (Option<String>, usize) {
        let mut tar = tar::Builder::new(Vec::new());
        for (index, size) in sizes.iter().enumerate() {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_mtime(1_000_000);
            header.set_size(*size as u64);
            tar.append_data(&mut header, format!("file-{index}"), vec![b'x'; *size].as_slice())
                .unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let root = Confined::open(dir.path()).unwrap();
        let mut layer = Layer::new("sha256:x", &root, false);
        layer.left = left;
        let outcome = layer.apply(tar.into_inner().unwrap().as_slice());
        (
            outcome.err().map(|error| error.to_string()),
            fs::read_dir(dir.path()).unwrap().count(),
        )
    }

    #[test]
    fn a_layer_has_a_limit_of_bytes_and_of_entries() {
        let limits = |entries, bytes| Limits { entries, bytes };
        assert_eq!(apply(&[60, 40, 0], limits(3, 100)), (None, 3));
        let (error, files) = apply(&[60, 41], limits(3, 100));
        assert!(
            error
                .unwrap()
                .contains("`file-1` of layer sha256:x: the layer is too large")
        );
        assert_eq!(files, 1);
        let (error, files) = apply(&[0, 0, 0], limits(2, 100));
        assert!(error.unwrap().contains("too many entries"));
        assert_eq!(files, 2);
    }
}
