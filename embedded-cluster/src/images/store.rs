//! The image store: an OCI image layout on disk, with each image's unpacked root file system.
//!
//! ```text
//! oci-layout, index.json, blobs/sha256/…   the OCI image layout
//! rootfs/<manifest digest>/                unpacked; read-only by convention
//! tmp/                                     unfinished files
//! lock                                     held while the index changes or an image is unpacked
//! ```
//!
//! Any number of processes can use a store at once. A named file is always complete: it is written
//! under `tmp/` and then renamed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_client::Reference;
use oci_spec::image::{Descriptor, Digest, ImageConfiguration, ImageManifest};
use serde::Deserialize;

use super::blobs::Blobs;
use super::error::{ImageError, IoContext as _};
use super::index::{Index, full_name, parse_reference};
use super::new_image::NewImage;
use super::rootfs;
use super::scratch::{self, Scratch};

/// The content of the file that marks an OCI image layout.
pub(super) const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Manifest digests that references stand for during one run, regardless of the shared index.
/// Another run may add a different image of the same name in the meantime.
pub type Pins = BTreeMap<String, String>;

/// An image that can be run.
#[derive(Debug, Clone)]
pub struct Image {
    /// The full name: registry, repository, tag or digest.
    pub reference: String,
    /// The manifest's digest, `sha256:…`.
    pub digest: String,
    /// The program to run, and its settings.
    pub config: ImageConfiguration,
    /// The unpacked layers. All containers of the image share them, so they must not be written to.
    pub rootfs: PathBuf,
}

/// An entry of [`ImageStore::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// The full name.
    pub reference: String,
    /// The manifest's digest.
    pub digest: String,
}

/// An image store on disk.
#[derive(Debug, Clone)]
pub struct ImageStore {
    dir: PathBuf,
    pub(super) blobs: Blobs,
    pins: Pins,
}

impl ImageStore {
    /// Opens the store in `dir`, and creates it if it is missing. Removes files that killed
    /// processes left in it.
    ///
    /// # Errors
    /// Fails if the folder cannot be written.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, ImageError> {
        let dir = dir.into();
        for sub in ["tmp", "rootfs"] {
            let sub = dir.join(sub);
            fs::create_dir_all(&sub).doing("create", &sub)?;
        }
        let store = Self {
            blobs: Blobs::open(&dir)?,
            dir,
            pins: Pins::new(),
        };
        let stale = scratch::remove_stale(&store.dir.join("tmp"))?;
        if stale > 0 {
            tracing::info!(stale, "removed temporary folders of processes that were killed");
        }
        if !store.dir.join("oci-layout").is_file() {
            store.replace(&store.scratch()?, "oci-layout", OCI_LAYOUT.as_bytes())?;
        }
        Ok(store)
    }

    /// Returns this store with each reference in `pins` pinned to its digest.
    #[must_use]
    pub fn pinned(mut self, pins: Pins) -> Self {
        let full =
            |(reference, digest): (String, String)| (full_name(&reference).unwrap_or(reference), digest);
        self.pins = pins.into_iter().map(full).collect();
        self
    }

    /// Returns the pins of [`Self::pinned`] by full name.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Returns the directory of the store.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the unpacked image that a reference (`perconalab/valkey:9.0.3`, `…@sha256:…`) names.
    /// Returns `None` if the store does not have the image.
    ///
    /// # Errors
    /// Fails if the reference is invalid, the image is damaged ([`ImageError::is_damage`]), or it
    /// cannot be unpacked.
    pub fn get(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        let name = parse_reference(reference)?;
        let Some(digest) = self.resolve(&name)? else {
            return Ok(None);
        };
        let manifest = self.manifest(&digest)?;
        let config = self.json(manifest.config().digest(), "image configuration")?;
        let rootfs = self.unpacked(&digest, &manifest)?;
        Ok(Some(Image {
            reference: name.whole(),
            digest: digest.to_string(),
            config,
            rootfs,
        }))
    }

    /// Returns all images that have a name, sorted by name.
    ///
    /// # Errors
    /// Fails if the index cannot be read.
    pub fn list(&self) -> Result<Vec<StoredImage>, ImageError> {
        let index = self.index()?;
        let image = |(name, descriptor): (&String, &Descriptor)| StoredImage {
            reference: name.clone(),
            digest: descriptor.digest().to_string(),
        };
        Ok(index.named().map(image).collect())
    }

    /// Adds an image built in memory and points the reference to it.
    ///
    /// # Errors
    /// Fails if the store cannot be written, or the reference is invalid.
    pub fn add(&self, reference: &str, image: &NewImage) -> Result<Image, ImageError> {
        let name = parse_reference(reference)?;
        let scratch = self.scratch()?;
        for blob in image.blobs().iter().chain([image.manifest()]) {
            self.blobs.add(&scratch, &blob.digest, &blob.content)?;
        }
        let manifest = image.manifest();
        self.tag(&name, &manifest.digest, manifest.content.len() as u64)?;
        self.obtained(&name, &manifest.digest)
    }

    /// Adds another reference to an image in the store.
    ///
    /// # Errors
    /// Fails if the image does not exist, or the store cannot be written.
    pub fn alias(&self, image: &Image, reference: &str) -> Result<Image, ImageError> {
        let name = parse_reference(reference)?;
        let digest = parse_digest(&image.digest)?;
        let size = self.blobs.read(&digest)?.len() as u64;
        self.tag(&name, &digest, size)?;
        self.obtained(&name, &digest)
    }

    /// Removes a reference, and content that no other reference needs. Returns false if it did not
    /// exist.
    ///
    /// # Errors
    /// Fails if the store cannot be written.
    pub fn remove(&self, reference: &str) -> Result<bool, ImageError> {
        let name = parse_reference(reference)?;
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let removed = index.remove(&name);
        self.replace(&self.scratch()?, "index.json", &index.to_json())?;
        if removed {
            self.collect(&index)?;
        }
        Ok(removed)
    }

    pub(super) fn scratch(&self) -> Result<Scratch, ImageError> {
        Scratch::create(&self.dir.join("tmp"))
    }

    pub(super) fn index(&self) -> Result<Index, ImageError> {
        let path = self.dir.join("index.json");
        match fs::read(&path) {
            Ok(text) => Index::parse("index.json of the image store", &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(error).doing("read", path),
        }
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Result<ImageManifest, ImageError> {
        self.json(digest, "image manifest")
    }

    /// Points a reference to a manifest in the store.
    pub(super) fn tag(&self, name: &Reference, manifest: &Digest, size: u64) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        let mut index = self.index()?;
        index.set(name, manifest.clone(), size);
        self.replace(&self.scratch()?, "index.json", &index.to_json())
    }

    /// Returns the image of a manifest that was just put into the store.
    pub(super) fn obtained(&self, name: &Reference, digest: &Digest) -> Result<Image, ImageError> {
        let manifest = self.manifest(digest)?;
        Ok(Image {
            reference: name.whole(),
            digest: digest.to_string(),
            config: self.json(manifest.config().digest(), "image configuration")?,
            rootfs: self.unpacked(digest, &manifest)?,
        })
    }

    pub(super) fn resolve(&self, name: &Reference) -> Result<Option<Digest>, ImageError> {
        if let Some(pin) = self.pins.get(&name.whole()) {
            return parse_digest(pin).map(Some);
        }
        if let Some(descriptor) = self.index()?.get(name) {
            return Ok(Some(descriptor.digest().clone()));
        }
        // `repository@sha256:…` needs no name in the index: the digest alone identifies the image.
        let Some(digest) = name.digest() else {
            return Ok(None);
        };
        let digest = parse_digest(digest)?;
        Ok(self.blobs.path(&digest).is_ok().then_some(digest))
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, digest: &Digest, what: &str) -> Result<T, ImageError> {
        let text = self.blobs.read(digest)?;
        serde_json::from_slice(&text).map_err(|source| ImageError::Json {
            subject: format!("{what} {digest}"),
            source,
        })
    }

    /// Returns the image's root file system, and unpacks it first if necessary.
    fn unpacked(&self, digest: &Digest, manifest: &ImageManifest) -> Result<PathBuf, ImageError> {
        let to = self.dir.join("rootfs").join(digest.digest());
        if to.is_dir() {
            return Ok(to);
        }
        // Another process may have unpacked it while this one waited for the lock.
        let _lock = self.lock()?;
        if to.is_dir() {
            return Ok(to);
        }
        let scratch = self.scratch()?;
        let unfinished = scratch.fresh();
        rootfs::unpack(&self.blobs, manifest, &unfinished)?;
        fs::rename(&unfinished, &to).doing("move into place", &to)?;
        Ok(to)
    }

    /// Removes blobs and root file systems without a reference. The caller holds the lock.
    fn collect(&self, index: &Index) -> Result<(), ImageError> {
        let mut needed = std::collections::HashSet::new();
        for descriptor in index.manifests() {
            let manifest = self.manifest(descriptor.digest())?;
            needed.insert(descriptor.digest().digest().to_owned());
            needed.insert(manifest.config().digest().digest().to_owned());
            needed.extend(
                manifest
                    .layers()
                    .iter()
                    .map(|layer| layer.digest().digest().to_owned()),
            );
        }
        for hex in self.blobs.list()?.iter().filter(|hex| !needed.contains(*hex)) {
            self.blobs.remove(hex)?;
        }
        let folder = self.dir.join("rootfs");
        for entry in fs::read_dir(&folder).doing("list", &folder)? {
            let entry = entry.doing("list", &folder)?;
            if !needed.contains(&*entry.file_name().to_string_lossy()) {
                fs::remove_dir_all(entry.path()).doing("remove", entry.path())?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> Result<fs::File, ImageError> {
        scratch::hold(&self.dir.join("lock"))
    }

    /// Replaces a file of the store atomically: a reader sees the old or the new content.
    fn replace(&self, scratch: &Scratch, name: &str, content: &[u8]) -> Result<(), ImageError> {
        let unfinished = scratch.fresh();
        fs::write(&unfinished, content).doing("write", &unfinished)?;
        let to = self.dir.join(name);
        fs::rename(&unfinished, &to).doing("move into place", to)
    }
}

pub(super) fn parse_digest(digest: &str) -> Result<Digest, ImageError> {
    Digest::try_from(digest)
        .map_err(|error| ImageError::malformed(format!("digest `{digest}`"), error.to_string()))
}
