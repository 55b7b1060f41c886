//! Imports an archive's images into a store. Manifests of an OCI layout keep their digests.
//! Archives of older Docker versions have no OCI manifest, so one is written.

use std::path::Path;

use oci_client::Reference;
use oci_spec::image::{
    Arch, Descriptor, ImageIndex, ImageManifest, ImageManifestBuilder, MediaType, Os, SCHEMA_VERSION,
};

use super::DockerImage;
use super::contents::{Contents, is_gzipped};
use crate::images::blobs::{Staged, sha256};
use crate::images::error::ImageError;
use crate::images::index::{Index, parse_reference};
use crate::images::new_image::canonical_json;
use crate::images::scratch::Scratch;
use crate::images::store::{ImageStore, StoredImage};

/// Annotation with the full name, set by containerd and Docker. The OCI one may be just a tag.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Maximum nesting of indexes: a multi-platform image's index is inside the archive's index.
const MAX_NESTING: usize = 4;

impl ImageStore {
    /// Adds every named image of an archive and returns these images. Accepts an OCI layout or the
    /// output of `docker save`, gzipped or not.
    ///
    /// # Errors
    /// Fails if the archive cannot be read or is not an image archive. Also fails if it names no
    /// image, or has none for this platform.
    pub fn add_archive(&self, archive: impl AsRef<Path>) -> Result<Vec<StoredImage>, ImageError> {
        let scratch = self.scratch()?;
        let contents = Contents::read(archive.as_ref(), &scratch)?;
        let import = Import {
            store: self,
            scratch: &scratch,
            contents: &contents,
        };
        let mut images = Vec::new();
        if contents.get("index.json").is_some() {
            images = import.oci_layout()?;
        }
        if images.is_empty() && contents.get("manifest.json").is_some() {
            images = import.docker()?;
        }
        if images.is_empty() {
            return Err(contents.malformed(
                "it has no image name; save the image by its full name, as in `docker save REPOSITORY:TAG`",
            ));
        }
        Ok(images)
    }
}

/// The import of one archive into a store.
#[derive(Debug)]
struct Import<'a> {
    store: &'a ImageStore,
    scratch: &'a Scratch,
    contents: &'a Contents,
}

impl Import<'_> {
    fn oci_layout(&self) -> Result<Vec<StoredImage>, ImageError> {
        let subject = format!("index.json of {}", self.contents.subject());
        let index = Index::parse(&subject, &self.contents.text("index.json")?)?;
        let mut images = Vec::new();
        for descriptor in index.manifests() {
            let Some(name) = full_name(descriptor) else {
                continue;
            };
            let manifest = self.platform_manifest(descriptor, 0)?;
            self.adopt_image(&manifest)?;
            images.push(self.name(&name, &manifest)?);
        }
        Ok(images)
    }

    fn docker(&self) -> Result<Vec<StoredImage>, ImageError> {
        let text = self.contents.text("manifest.json")?;
        let entries: Vec<DockerImage> = serde_json::from_slice(&text).map_err(|source| ImageError::Json {
            subject: format!("manifest.json of {}", self.contents.subject()),
            source,
        })?;
        let mut images = Vec::new();
        for entry in &entries {
            let names = entry.repo_tags.as_deref().unwrap_or_default();
            if names.is_empty() {
                continue;
            }
            let text = self.write_manifest(entry)?;
            let digest = sha256(&text);
            self.store.blobs.add(self.scratch, &digest, &text)?;
            let descriptor = Descriptor::new(MediaType::ImageManifest, text.len() as u64, digest);
            for name in names {
                images.push(self.name(&parse_reference(name)?, &descriptor)?);
            }
        }
        Ok(images)
    }

    /// Follows nested indexes to the manifest for this machine's platform.
    fn platform_manifest(&self, descriptor: &Descriptor, nesting: usize) -> Result<Descriptor, ImageError> {
        let text = self.blob_text(descriptor)?;
        let Ok(index) = serde_json::from_slice::<ImageIndex>(&text) else {
            return Ok(descriptor.clone());
        };
        if nesting == MAX_NESTING {
            return Err(self.contents.malformed("its indexes are nested too deeply"));
        }
        let subject = format!("{} in {}", descriptor.digest(), self.contents.subject());
        self.platform_manifest(choose_platform(&subject, index.manifests())?, nesting + 1)
    }

    /// Puts a manifest, its configuration and its layers into the store.
    fn adopt_image(&self, descriptor: &Descriptor) -> Result<(), ImageError> {
        let text = self.blob_text(descriptor)?;
        let manifest: ImageManifest = serde_json::from_slice(&text).map_err(|source| ImageError::Json {
            subject: format!("manifest {} of {}", descriptor.digest(), self.contents.subject()),
            source,
        })?;
        let parts = manifest.layers().iter().chain([manifest.config(), descriptor]);
        for part in parts {
            // If two images of an archive share a layer, the first has already stored it.
            if self.store.blobs.path(part.digest()).is_ok() && self.store.blobs.verify(part.digest()).is_ok()
            {
                continue;
            }
            self.store.blobs.adopt(self.blob(part)?)?;
        }
        Ok(())
    }

    fn write_manifest(&self, image: &DockerImage) -> Result<Vec<u8>, ImageError> {
        let config = self.contents.require(&image.config)?;
        let mut layers = Vec::new();
        for name in &image.layers {
            let layer = self.contents.require(name)?;
            let gzipped = is_gzipped_or_stored(self.store, layer)?;
            let media_type = if gzipped {
                MediaType::ImageLayerGzip
            } else {
                MediaType::ImageLayer
            };
            layers.push(Descriptor::new(media_type, layer.size, layer.digest.clone()));
            self.adopt_once(layer)?;
        }
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(Descriptor::new(
                MediaType::ImageConfig,
                config.size,
                config.digest.clone(),
            ))
            .layers(layers)
            .build()
            .expect("every member that a manifest must have is set");
        self.adopt_once(config)?;
        Ok(canonical_json(&manifest))
    }

    /// Moves a staged file into the store. Does nothing if an earlier image of the archive has
    /// moved it.
    fn adopt_once(&self, staged: &Staged) -> Result<(), ImageError> {
        if staged.path.is_file() {
            self.store.blobs.adopt(staged)
        } else {
            Ok(())
        }
    }

    /// Returns the archive's file for a digest, after comparing the digest with the content's.
    fn blob(&self, descriptor: &Descriptor) -> Result<&Staged, ImageError> {
        let digest = descriptor.digest();
        let staged = self
            .contents
            .require(&format!("blobs/{}/{}", digest.algorithm(), digest.digest()))?;
        if staged.digest != *digest {
            return Err(self.contents.malformed(format!(
                "the content of its blob {digest} has the digest {}",
                staged.digest
            )));
        }
        Ok(staged)
    }

    fn blob_text(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        match self.store.blobs.read(descriptor.digest()) {
            Ok(text) => Ok(text),
            Err(_) => {
                let digest = self.blob(descriptor)?.digest.clone();
                self.contents
                    .text(&format!("blobs/{}/{}", digest.algorithm(), digest.digest()))
            }
        }
    }

    fn name(&self, name: &Reference, manifest: &Descriptor) -> Result<StoredImage, ImageError> {
        self.store.tag(name, manifest.digest(), manifest.size())?;
        Ok(StoredImage {
            reference: name.whole(),
            digest: manifest.digest().to_string(),
        })
    }
}

/// Returns true if a layer is gzipped. Import of an earlier image may have stored it already.
fn is_gzipped_or_stored(store: &ImageStore, layer: &Staged) -> Result<bool, ImageError> {
    if layer.path.is_file() {
        return is_gzipped(layer);
    }
    is_gzipped(&Staged {
        path: store.blobs.path(&layer.digest)?,
        ..layer.clone()
    })
}

/// Returns the image's name, if the archive gives the full name and not only a tag.
fn full_name(descriptor: &Descriptor) -> Option<Reference> {
    let annotations = descriptor.annotations().as_ref()?;
    let name = annotations.get(CONTAINERD_NAME).or_else(|| {
        let name = annotations.get(REF_NAME)?;
        name.contains(['/', ':']).then_some(name)
    })?;
    parse_reference(name).ok()
}

/// Returns the entry of a multi-platform image for this machine.
pub(in crate::images) fn choose_platform<'a>(
    subject: &str,
    manifests: &'a [Descriptor],
) -> Result<&'a Descriptor, ImageError> {
    let (os, arch) = (Os::Linux, Arch::default());
    let fits = |descriptor: &&Descriptor| {
        descriptor
            .platform()
            .as_ref()
            .is_some_and(|p| *p.os() == os && *p.architecture() == arch)
    };
    if let Some(descriptor) = manifests.iter().find(fits) {
        return Ok(descriptor);
    }
    // An index with one image may omit the platform.
    if let [only] = manifests
        && only.platform().is_none()
    {
        return Ok(only);
    }
    let available = manifests
        .iter()
        .filter_map(|descriptor| descriptor.platform().as_ref());
    let available: Vec<_> = available
        .map(|p| format!("{}/{}", p.os(), p.architecture()))
        .collect();
    Err(ImageError::Platform {
        subject: subject.to_owned(),
        wanted: format!("{os}/{arch}"),
        available: if available.is_empty() {
            "none".to_owned()
        } else {
            available.join(", ")
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use oci_spec::image::PlatformBuilder;

    use super::*;

    fn descriptor(content: &[u8]) -> Descriptor {
        Descriptor::new(MediaType::ImageManifest, content.len() as u64, sha256(content))
    }

    #[test]
    fn a_tag_alone_is_no_name() {
        let named = |key: &str, name: &str| {
            let mut descriptor = descriptor(b"");
            descriptor.set_annotations(Some(HashMap::from([(key.to_owned(), name.to_owned())])));
            full_name(&descriptor).map(|name| name.whole())
        };
        assert_eq!(named(REF_NAME, "9.0.3"), None);
        assert_eq!(named(REF_NAME, "a/b:1").as_deref(), Some("docker.io/a/b:1"));
        assert_eq!(
            named(CONTAINERD_NAME, "docker.io/a/b:1").as_deref(),
            Some("docker.io/a/b:1")
        );
    }

    #[test]
    fn a_platform_that_is_not_there_is_told_with_those_that_are() {
        let mut windows = descriptor(b"windows");
        let platform = PlatformBuilder::default()
            .os(Os::Windows)
            .architecture(Arch::Amd64)
            .build()
            .unwrap();
        windows.set_platform(Some(platform));
        let error = choose_platform("x", &[windows.clone()]).unwrap_err().to_string();
        assert!(
            error.contains("windows/amd64") && error.contains("linux/"),
            "{error}"
        );

        let mut linux = descriptor(b"linux");
        let platform = PlatformBuilder::default()
            .os(Os::Linux)
            .architecture(Arch::default())
            .build()
            .unwrap();
        linux.set_platform(Some(platform));
        assert_eq!(choose_platform("x", &[windows, linux.clone()]).unwrap(), &linux);
    }
}
