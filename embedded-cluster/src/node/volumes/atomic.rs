//! The kubelet's atomic writer: the files of a volume live in a directory of their own version, `..data` points
//! to the current one, and each visible name points through `..data`. Swapping that one link changes everything
//! at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::ownership;

const CURRENT: &str = "..data";
const NEXT: &str = "..data_tmp";

/// A file of a volume: contents and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

/// Makes `directory` hold exactly these files (keys are relative paths). Does nothing if it already does.
pub(super) fn write(directory: &Path, files: &BTreeMap<String, File>, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    if unchanged(directory, files) {
        return Ok(());
    }
    let version = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%N"));
    let fresh = directory.join(&version);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.bytes)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(file.mode))?;
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777))?;
    let previous = fs::read_link(directory.join(CURRENT)).ok();
    symlink(&version, directory.join(NEXT))?;
    // Ownership comes before the swap, so that nobody meets a file they may not read.
    ownership::apply(&fresh, group, true)?;
    fs::rename(directory.join(NEXT), directory.join(CURRENT))?;
    let names: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    link_names(directory, &names)?;
    if let Some(previous) = previous {
        fs::remove_dir_all(directory.join(previous))?;
    }
    Ok(())
}

fn unchanged(directory: &Path, files: &BTreeMap<String, File>) -> bool {
    let current = directory.join(CURRENT);
    let mut present = BTreeSet::new();
    if list(&current, "", &mut present).is_err() {
        return false;
    }
    present.iter().eq(files.keys())
        && files
            .iter()
            .all(|(path, file)| fs::read(current.join(path)).is_ok_and(|bytes| bytes == file.bytes))
}

fn list(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{path}/"), found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

fn link_names(directory: &Path, names: &BTreeSet<&str>) -> io::Result<()> {
    for name in names {
        let link = directory.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(CURRENT).join(name), link)?;
        }
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !names.contains(name.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> BTreeMap<String, File> {
        let file = |text: &str| File {
            bytes: text.as_bytes().to_vec(),
            mode: 0o640,
        };
        entries
            .iter()
            .map(|(name, text)| ((*name).to_owned(), file(text)))
            .collect()
    }

    #[test]
    fn an_update_replaces_everything_at_once_and_leaves_one_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        write(path, &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        let first = fs::read_link(path.join(CURRENT)).unwrap();
        assert_eq!(fs::read_to_string(path.join("sub/b")).unwrap(), "2");
        assert_eq!(
            fs::metadata(path.join("a")).unwrap().permissions().mode() & 0o777,
            0o640
        );
        write(path, &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        assert_eq!(
            fs::read_link(path.join(CURRENT)).unwrap(),
            first,
            "nothing changed, nothing written"
        );
        write(path, &files(&[("a", "3"), ("c", "4")]), None).unwrap();
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "3");
        assert!(fs::symlink_metadata(path.join("sub")).is_err());
        let versions = fs::read_dir(path).unwrap().filter(|e| {
            e.as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("..2")
        });
        assert_eq!(versions.count(), 1);
    }
}
