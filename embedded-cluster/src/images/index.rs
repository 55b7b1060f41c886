//! `index.json`, which maps references to manifests. These functions have no side effects; the
//! store reads and writes the file.

use std::collections::HashMap;

use oci_client::Reference;
use oci_spec::image::{Descriptor, Digest, ImageIndex, MediaType, SCHEMA_VERSION};

use super::error::ImageError;

/// Annotation with an image's name in an OCI image layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The index of a store or an archive.
#[derive(Debug, Clone)]
pub(super) struct Index {
    inner: ImageIndex,
}

impl Default for Index {
    fn default() -> Self {
        let mut inner = ImageIndex::default();
        inner.set_schema_version(SCHEMA_VERSION);
        inner.set_media_type(Some(MediaType::ImageIndex));
        Self { inner }
    }
}

impl Index {
    pub(super) fn parse(subject: &str, text: &[u8]) -> Result<Self, ImageError> {
        let inner = serde_json::from_slice(text).map_err(|source| ImageError::Json {
            subject: subject.to_owned(),
            source,
        })?;
        Ok(Self { inner })
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(&self.inner).expect("an index is plain data")
    }

    /// Returns the manifest that a reference names.
    pub(super) fn get(&self, reference: &Reference) -> Option<&Descriptor> {
        let name = reference.whole();
        self.named()
            .find(|(n, _)| **n == name)
            .map(|(_, descriptor)| descriptor)
    }

    /// Points a reference to a manifest, replacing any earlier target.
    pub(super) fn set(&mut self, reference: &Reference, manifest: Digest, size: u64) {
        self.remove(reference);
        let mut descriptor = Descriptor::new(MediaType::ImageManifest, size, manifest);
        descriptor.set_annotations(Some(HashMap::from([(REF_NAME.to_owned(), reference.whole())])));
        let mut manifests = self.inner.manifests().clone();
        manifests.push(descriptor);
        manifests.sort_by_key(name_of);
        self.inner.set_manifests(manifests);
    }

    /// Removes a reference. Returns false if it did not exist.
    pub(super) fn remove(&mut self, reference: &Reference) -> bool {
        let name = reference.whole();
        let mut manifests = self.inner.manifests().clone();
        let before = manifests.len();
        manifests.retain(|descriptor| name_of(descriptor).as_deref() != Some(&name));
        let removed = manifests.len() != before;
        self.inner.set_manifests(manifests);
        removed
    }

    /// Returns every name with its manifest, sorted by name.
    pub(super) fn named(&self) -> impl Iterator<Item = (&String, &Descriptor)> {
        self.manifests().iter().filter_map(|descriptor| {
            descriptor
                .annotations()
                .as_ref()?
                .get(REF_NAME)
                .map(|name| (name, descriptor))
        })
    }

    pub(super) fn manifests(&self) -> &[Descriptor] {
        self.inner.manifests()
    }
}

/// Returns the full name of a reference: registry, repository, tag or digest.
///
/// # Errors
/// Fails if it is not a valid reference.
pub fn full_name(reference: &str) -> Result<String, ImageError> {
    parse_reference(reference).map(|reference| reference.whole())
}

/// Parses a reference and adds the usual defaults: `perconalab/valkey` becomes
/// `docker.io/perconalab/valkey:latest`.
pub(super) fn parse_reference(reference: &str) -> Result<Reference, ImageError> {
    reference.parse().map_err(|source| ImageError::Reference {
        reference: reference.to_owned(),
        source,
    })
}

fn name_of(descriptor: &Descriptor) -> Option<String> {
    descriptor.annotations().as_ref()?.get(REF_NAME).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::blobs::sha256;

    #[test]
    fn short_names_mean_what_docker_says() {
        for (short, whole) in [
            ("valkey", "docker.io/library/valkey:latest"),
            ("perconalab/valkey:9.0.3", "docker.io/perconalab/valkey:9.0.3"),
            (
                "docker.io/perconalab/valkey:9.0.3",
                "docker.io/perconalab/valkey:9.0.3",
            ),
            ("localhost:5000/valkey:1", "localhost:5000/valkey:1"),
        ] {
            assert_eq!(parse_reference(short).unwrap().whole(), whole);
        }
    }

    #[test]
    fn a_bad_reference_is_named() {
        let error = parse_reference("Percona/Valkey:9 0").unwrap_err();
        assert!(error.to_string().contains("`Percona/Valkey:9 0`"), "{error}");
    }

    #[test]
    fn a_reference_names_one_manifest_the_last_one() {
        let reference = parse_reference("a/b:1").unwrap();
        let mut index = Index::default();
        index.set(&reference, sha256(b"one"), 3);
        index.set(&reference, sha256(b"two"), 3);
        let again = Index::parse("index.json", &index.to_json()).unwrap();
        assert_eq!(again.get(&reference).unwrap().digest(), &sha256(b"two"));
        assert_eq!(again.manifests().len(), 1);
        index.remove(&reference);
        assert!(index.get(&reference).is_none());
    }
}
