//! The files of an image archive, staged in the store. The store chooses the file names and never
//! uses names from the archive.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tar::EntryType;

use crate::images::blobs::{Staged, stage};
use crate::images::error::{ImageError, IoContext as _};
use crate::images::scratch::Scratch;

/// Maximum number of links to follow from a name. Older versions of `docker save` write layers that
/// several images share as links.
const MAX_LINKS: usize = 8;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The files of an archive.
#[derive(Debug)]
pub(super) struct Contents {
    archive: PathBuf,
    files: BTreeMap<PathBuf, Staged>,
    links: BTreeMap<PathBuf, PathBuf>,
}

impl Contents {
    /// Reads a tar archive, gzipped or not.
    pub(super) fn read(archive: &Path, scratch: &Scratch) -> Result<Self, ImageError> {
        let mut file = File::open(archive).doing("open", archive)?;
        let gzipped = starts_with_gzip(&mut file).doing("read", archive)?;
        let file = BufReader::new(file);
        let stream: Box<dyn Read> = if gzipped {
            Box::new(MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        };
        let mut contents = Self {
            archive: archive.to_owned(),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        let mut tar = tar::Archive::new(stream);
        for entry in tar.entries().doing("read", archive)? {
            let mut entry = entry.map_err(|error| contents.not_an_archive(&error))?;
            let path = plain(&entry.path().doing("read", archive)?);
            match entry.header().entry_type() {
                EntryType::Regular => {
                    contents.files.insert(path, stage(scratch, &mut entry)?);
                }
                EntryType::Symlink | EntryType::Link => {
                    let target = entry
                        .link_name()
                        .doing("read", archive)?
                        .unwrap_or_default()
                        .into_owned();
                    let is_symlink = entry.header().entry_type() == EntryType::Symlink;
                    // Symlinks are relative to their directory, hard links to the archive's root.
                    let folder = if is_symlink {
                        path.parent().map(Path::to_owned)
                    } else {
                        None
                    };
                    contents
                        .links
                        .insert(path, plain(&folder.unwrap_or_default().join(target)));
                }
                _ => {}
            }
        }
        Ok(contents)
    }

    /// Returns the file of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Staged> {
        let mut path = &plain(Path::new(name));
        for _ in 0..MAX_LINKS {
            if let Some(file) = self.files.get(path) {
                return Some(file);
            }
            path = self.links.get(path)?;
        }
        None
    }

    /// Returns the file of this name, to which another file of the archive refers.
    pub(super) fn require(&self, name: &str) -> Result<&Staged, ImageError> {
        self.get(name)
            .ok_or_else(|| self.malformed(format!("it refers to `{name}`, which is missing")))
    }

    /// Returns the content of the file of this name.
    pub(super) fn text(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let file = self.require(name)?;
        fs::read(&file.path).doing("read", &file.path)
    }

    pub(super) fn malformed(&self, problem: impl Into<String>) -> ImageError {
        ImageError::malformed(self.subject(), problem)
    }

    pub(super) fn subject(&self) -> String {
        format!("image archive {}", self.archive.display())
    }

    fn not_an_archive(&self, error: &io::Error) -> ImageError {
        self.malformed(format!("it is not a tar archive, or it is damaged ({error})"))
    }
}

/// Returns true if a staged file is gzipped, regardless of its name.
pub(super) fn is_gzipped(staged: &Staged) -> Result<bool, ImageError> {
    let mut file = File::open(&staged.path).doing("open", &staged.path)?;
    starts_with_gzip(&mut file).doing("read", &staged.path)
}

fn starts_with_gzip(file: &mut File) -> io::Result<bool> {
    let mut magic = Vec::new();
    file.by_ref()
        .take(GZIP_MAGIC.len() as u64)
        .read_to_end(&mut magic)?;
    file.rewind()?;
    Ok(magic == GZIP_MAGIC)
}

/// Normalises the path: drops `.` and resolves `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_files_and_never_in_circles() {
        let staged = |digest: &[u8]| Staged {
            path: PathBuf::new(),
            digest: crate::images::blobs::sha256(digest),
            size: 0,
        };
        let contents = Contents {
            archive: PathBuf::from("a.tar"),
            files: BTreeMap::from([("one/layer.tar".into(), staged(b"1"))]),
            links: BTreeMap::from([
                ("two/layer.tar".into(), plain(Path::new("two/../one/layer.tar"))),
                ("x".into(), "y".into()),
                ("y".into(), "x".into()),
            ]),
        };
        assert!(contents.get("./two/layer.tar").is_some());
        assert!(contents.get("x").is_none());
        let error = contents.require("x").unwrap_err().to_string();
        assert!(error.contains("a.tar") && error.contains("`x`"), "{error}");
    }
}
