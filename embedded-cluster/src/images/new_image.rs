//! Builds images from files, reproducibly: equal inputs have equal digests on every machine.
//! Entries are sorted by path and have fixed owners and times. Nothing depends on the clock or on
//! randomness.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::{
    Descriptor, Digest, ImageConfiguration, ImageManifestBuilder, MediaType, RootFs, SCHEMA_VERSION,
};

use super::blobs::sha256;

/// Time of every entry: the start of 1980, the earliest time that every archive format can store.
const ENTRY_TIME: u64 = 315_532_800;

/// The files of one layer.
#[derive(Debug, Default, Clone)]
pub struct LayerBuilder {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    content: Content,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(Debug, Clone)]
enum Content {
    Folder,
    File(Vec<u8>),
    Symlink(PathBuf),
}

impl LayerBuilder {
    /// Returns a layer without files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder owned by `uid`:`uid`. Missing parent folders of an entry are added
    /// automatically (root, 0755).
    pub fn folder(&mut self, path: impl AsRef<Path>, mode: u32, uid: u32) -> &mut Self {
        self.add(path.as_ref(), Content::Folder, mode, uid)
    }

    /// Adds a file owned by root.
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, content: impl Into<Vec<u8>>) -> &mut Self {
        self.add(path.as_ref(), Content::File(content.into()), mode, 0)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl Into<PathBuf>) -> &mut Self {
        self.add(path.as_ref(), Content::Symlink(target.into()), 0o777, 0)
    }

    /// Returns true if the layer has an entry at this path.
    #[must_use]
    pub fn contains(&self, path: impl AsRef<Path>) -> bool {
        self.entries.contains_key(&relative(path.as_ref()))
    }

    /// Returns the layer as a tar archive. Compressing it would cost more time than it saves in
    /// reading.
    ///
    /// # Errors
    /// Fails if a tar archive cannot hold one of the entries.
    pub fn to_tar(&self) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.uid.into());
            header.set_gid(entry.gid.into());
            header.set_mtime(ENTRY_TIME);
            header.set_size(0);
            match &entry.content {
                Content::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    archive.append_data(&mut header, path, io::empty())?;
                }
                Content::File(content) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, content.as_slice())?;
                }
                Content::Symlink(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    archive.append_link(&mut header, path, target)?;
                }
            }
        }
        archive.into_inner()
    }

    fn add(&mut self, path: &Path, content: Content, mode: u32, id: u32) -> &mut Self {
        let path = relative(path);
        for folder in path
            .ancestors()
            .skip(1)
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            self.entries.entry(folder.to_owned()).or_insert(Entry {
                content: Content::Folder,
                mode: 0o755,
                uid: 0,
                gid: 0,
            });
        }
        self.entries.insert(
            path,
            Entry {
                content,
                mode,
                uid: id,
                gid: id,
            },
        );
        self
    }
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

/// An image in memory that is not yet in a store.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The layers and the configuration.
    blobs: Vec<NewBlob>,
    manifest: NewBlob,
}

/// Bytes with their digest. Storing the digest avoids computing it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewBlob {
    pub(super) content: Vec<u8>,
    pub(super) digest: Digest,
}

impl NewImage {
    /// Builds an image from a configuration and layers, and sets the configuration's `rootfs`.
    /// Layers are uncompressed tar archives, lowest first.
    #[must_use]
    pub fn new(mut config: ImageConfiguration, layers: Vec<Vec<u8>>) -> Self {
        let mut blobs: Vec<NewBlob> = layers.into_iter().map(NewBlob::new).collect();
        let mut rootfs = RootFs::default();
        rootfs.set_diff_ids(blobs.iter().map(|layer| layer.digest.to_string()).collect());
        config.set_rootfs(rootfs);
        let config = NewBlob::new(canonical_json(&config));
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config.descriptor(MediaType::ImageConfig))
            .layers(
                blobs
                    .iter()
                    .map(|layer| layer.descriptor(MediaType::ImageLayer))
                    .collect::<Vec<_>>(),
            )
            .build()
            .expect("every member that a manifest must have is set");
        blobs.push(config);
        Self {
            blobs,
            manifest: NewBlob::new(canonical_json(&manifest)),
        }
    }

    /// Returns the layers and the configuration.
    pub(super) fn blobs(&self) -> &[NewBlob] {
        &self.blobs
    }

    /// Returns the manifest.
    pub(super) fn manifest(&self) -> &NewBlob {
        &self.manifest
    }
}

impl NewBlob {
    fn new(content: Vec<u8>) -> Self {
        Self {
            digest: sha256(&content),
            content,
        }
    }

    fn descriptor(&self, media_type: MediaType) -> Descriptor {
        Descriptor::new(media_type, self.content.len() as u64, self.digest.clone())
    }
}

/// Serialises to JSON with sorted object keys. The OCI types hold hash maps (labels, annotations,
/// volumes). Without sorting, every process would write these maps in a different order.
pub(super) fn canonical_json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut value = serde_json::to_value(value).expect("image documents are plain data");
    value.sort_all_objects();
    serde_json::to_vec(&value).expect("a JSON value can be written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn image() -> NewImage {
        let mut layer = LayerBuilder::new();
        layer
            .file("/usr/bin/b", 0o755, "b")
            .file("/usr/bin/a", 0o755, "a")
            .symlink("/bin", "usr/bin");
        layer.folder("/data", 0o755, 999);
        let mut inner = oci_spec::image::Config::default();
        inner.set_labels(Some(
            (0..20)
                .map(|n| (n.to_string(), String::new()))
                .collect::<HashMap<_, _>>(),
        ));
        inner.set_volumes(Some(vec!["/data".to_owned(), "/other".to_owned()]));
        let mut config = ImageConfiguration::default();
        config.set_config(Some(inner));
        NewImage::new(config, vec![layer.to_tar().unwrap()])
    }

    #[test]
    fn the_same_inputs_are_the_same_bytes() {
        assert_eq!(image().manifest(), image().manifest());
        assert_eq!(image().blobs(), image().blobs());
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut layer = LayerBuilder::new();
        layer.file("/a/b/c", 0o644, "");
        let tar = layer.to_tar().unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        let paths: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c"]);
    }
}
