//! The kubelet's atomic writer. Each version of a volume's files has a directory. `..data` points
//! to the current version, and each visible name points through `..data`. Swapping that one link
//! changes everything at once.
//!
//! Containers see these volumes read-only, but this code does not rely on it. Every name is
//! resolved inside the volume ([`Confined`]), and links are read but never followed. A container's
//! files thus cannot redirect a write or a removal out of the volume.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::ownership;
use crate::confined::{Attributes, Confined, Place};

const CURRENT: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Mode of the directories of a version.
const FOLDER_MODE: u32 = 0o755;

/// A file of a volume: content and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

/// Makes `directory` hold exactly these files (keys are relative paths). Does nothing if it already
/// holds them.
pub(super) fn write(directory: &Path, files: &BTreeMap<String, File>, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let volume = Confined::open(directory)?;
    let previous = current_version(&volume);
    if let Some(previous) = &previous
        && unchanged(&volume, previous, files)
    {
        return Ok(());
    }
    let now = jiff::Timestamp::now();
    let version = format!("..{}", now.strftime("%Y_%m_%d_%H_%M_%S.%N"));
    let attributes = |mode| Attributes {
        mode,
        owner: None,
        mtime: now.as_second().unsigned_abs(),
    };
    let fresh = entry(&volume, &version)?;
    fresh.write_folder(attributes(FOLDER_MODE))?;
    let inside = Confined::open_below(&volume, Path::new(&version))?;
    for (path, file) in files {
        if let Some(target) = inside.place(Path::new(path))? {
            target.write_file(file.bytes.as_slice(), attributes(file.mode))?;
        }
    }
    // Ownership comes before the swap, so that no reader sees a file it may not read.
    ownership::apply(&fresh.path(), group, true)?;
    volume.set_mode(0o777)?;
    let next = entry(&volume, NEXT)?;
    next.write_symlink(Path::new(&version), attributes(0o777))?;
    let current = entry(&volume, CURRENT)?;
    if current.link_target().is_none() {
        current.clear()?;
    }
    next.rename_to(&current)?;
    let names: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    link_names(&volume, &names, attributes(0o777))?;
    if let Some(previous) = previous.filter(|previous| *previous != version) {
        entry(&volume, &previous)?.clear()?;
    }
    Ok(())
}

/// Returns the name of the version that `..data` points to; `None` if it does not point to one.
fn current_version(volume: &Confined) -> Option<String> {
    let target = entry(volume, CURRENT).ok()?.link_target()?;
    let mut parts = target.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => {
            name.to_str().filter(|name| is_version(name)).map(str::to_owned)
        }
        _ => None,
    }
}

fn is_version(name: &str) -> bool {
    name.starts_with("..") && name != CURRENT && name != NEXT
}

fn entry(volume: &Confined, name: &str) -> io::Result<Place> {
    volume
        .place(Path::new(name))?
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn unchanged(volume: &Confined, version: &str, files: &BTreeMap<String, File>) -> bool {
    let mut present = BTreeSet::new();
    if list(volume, Path::new(version), "", &mut present).is_err() {
        return false;
    }
    let version = Path::new(version);
    present.iter().eq(files.keys())
        && files.iter().all(|(path, file)| {
            // One byte more than expected shows that the file is longer.
            let read = volume.read(&version.join(path), file.bytes.len() as u64 + 1);
            read.is_ok_and(|bytes| bytes == file.bytes)
        })
}

fn list(volume: &Confined, folder: &Path, prefix: &str, found: &mut BTreeSet<String>) -> io::Result<()> {
    for (name, is_folder) in volume.entries(folder)? {
        let path = format!("{prefix}{}", name.to_string_lossy());
        if is_folder {
            list(volume, &folder.join(&name), &format!("{path}/"), found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

fn link_names(volume: &Confined, names: &BTreeSet<&str>, attributes: Attributes) -> io::Result<()> {
    for name in names {
        let link = entry(volume, name)?;
        let target = PathBuf::from(CURRENT).join(name);
        if link.link_target().as_ref() != Some(&target) {
            link.write_symlink(&target, attributes)?;
        }
    }
    for (name, _) in volume.entries(Path::new(""))? {
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(&*name) {
            entry(volume, &name)?.clear()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

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

    /// Creates a host directory with one file, and the volume whose links point there.
    fn host_and_volume() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (host, volume) = (dir.path().join("host"), dir.path().join("volume"));
        fs::create_dir(&host).unwrap();
        fs::write(host.join("a"), "of the host").unwrap();
        write(&volume, &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        (dir, host, volume)
    }

    fn assert_untouched(host: &Path) {
        let names: Vec<_> = fs::read_dir(host)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["a"]);
        assert_eq!(fs::read_to_string(host.join("a")).unwrap(), "of the host");
    }

    #[test]
    fn a_planted_data_link_leads_nowhere() {
        for target in ["/ABSOLUTE", "../host", CURRENT, NEXT, "..", "a"] {
            let (_dir, host, volume) = host_and_volume();
            fs::remove_file(volume.join(CURRENT)).unwrap();
            let target = if target == "/ABSOLUTE" {
                host.as_path()
            } else {
                Path::new(target)
            };
            symlink(target, volume.join(CURRENT)).unwrap();
            write(&volume, &files(&[("a", "3")]), None).unwrap();
            assert_untouched(&host);
            assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "3");
        }
    }

    #[test]
    fn a_planted_version_folder_leads_nowhere() {
        let (_dir, host, volume) = host_and_volume();
        let version = fs::read_link(volume.join(CURRENT)).unwrap();
        fs::remove_dir_all(volume.join(&version)).unwrap();
        symlink(&host, volume.join(&version)).unwrap();
        write(&volume, &files(&[("a", "3")]), None).unwrap();
        assert_untouched(&host);
        assert!(fs::symlink_metadata(volume.join(&version)).is_err());
    }

    #[test]
    fn planted_names_are_replaced_and_removed_inside_the_volume() {
        let (_dir, host, volume) = host_and_volume();
        for name in ["a", "sub"] {
            fs::remove_file(volume.join(name)).unwrap();
            symlink(&host, volume.join(name)).unwrap();
        }
        symlink(&host, volume.join(NEXT)).unwrap();
        fs::remove_file(volume.join(CURRENT)).unwrap();
        fs::create_dir_all(volume.join(CURRENT).join("planted")).unwrap();
        write(&volume, &files(&[("a", "3")]), None).unwrap();
        assert_untouched(&host);
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "3");
        assert!(fs::symlink_metadata(volume.join("sub")).is_err());
    }
}
