//! Exports images of a store into an archive. The archive is an OCI layout with a `manifest.json`,
//! so that every version of `docker load` can read it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use oci_client::Reference;
use oci_spec::image::Digest;

use super::DockerImage;
use crate::images::error::{ImageError, IoContext as _};
use crate::images::index::{Index, parse_reference};
use crate::images::store::ImageStore;

/// Prefix that Docker omits when it shows names of its registry.
const DOCKER_HUB: &str = "docker.io/";
const DOCKER_HUB_OFFICIAL: &str = "docker.io/library/";

impl ImageStore {
    /// Writes images into one archive, for `docker load -i`, `kind load image-archive` or another
    /// store.
    ///
    /// # Errors
    /// Fails if the store lacks one of the images, or the archive cannot be written.
    pub fn export_archive(&self, references: &[&str], archive: impl AsRef<Path>) -> Result<(), ImageError> {
        let archive = archive.as_ref();
        let mut index = Index::default();
        let mut docker = Vec::new();
        let mut blobs = BTreeSet::new();
        for reference in references {
            let name = parse_reference(reference)?;
            let digest = self.resolve(&name)?.ok_or_else(|| {
                ImageError::malformed(format!("image `{reference}`"), "the store does not have it")
            })?;
            let manifest = self.manifest(&digest)?;
            let layers: Vec<String> = manifest.layers().iter().map(|l| blob_path(l.digest())).collect();
            blobs.insert(digest.to_string());
            blobs.insert(manifest.config().digest().to_string());
            blobs.extend(manifest.layers().iter().map(|layer| layer.digest().to_string()));
            let size = self.blobs.read(&digest)?.len() as u64;
            index.set(&name, digest, size);
            let config = blob_path(manifest.config().digest());
            docker.push(DockerImage {
                config,
                repo_tags: Some(vec![familiar(&name)]),
                layers,
            });
        }
        let docker = serde_json::to_vec(&docker).expect("names and paths are plain data");
        let documents = [
            ("oci-layout", crate::images::store::OCI_LAYOUT.as_bytes()),
            ("index.json", &index.to_json()),
            ("manifest.json", &docker),
        ];
        self.write_archive(&documents, &blobs, archive)
    }

    fn write_archive(
        &self,
        documents: &[(&str, &[u8])],
        blobs: &BTreeSet<String>,
        to: &Path,
    ) -> Result<(), ImageError> {
        let folder = to
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let file = tempfile::NamedTempFile::new_in(folder).doing("create a file in", folder)?;
        let mut tar = tar::Builder::new(io::BufWriter::new(file));
        for (name, content) in documents {
            let mut header = header(content.len() as u64);
            tar.append_data(&mut header, name, *content).doing("write", to)?;
        }
        for digest in blobs {
            let digest = crate::images::store::parse_digest(digest)?;
            let path = self.blobs.verify(&digest)?;
            let blob = File::open(&path).doing("open", &path)?;
            let mut header = header(blob.metadata().doing("read", &path)?.len());
            tar.append_data(&mut header, blob_path(&digest), blob)
                .doing("write", to)?;
        }
        let file = tar.into_inner().doing("write", to)?;
        let file = file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .doing("write", to)?;
        file.persist(to)
            .map_err(|error| error.error)
            .doing("move into place", to)?;
        Ok(())
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.digest())
}

/// Returns the short name that Docker shows. Old versions accept no other form in `RepoTags`.
fn familiar(name: &Reference) -> String {
    let whole = name.whole();
    let short = whole
        .strip_prefix(DOCKER_HUB_OFFICIAL)
        .or_else(|| whole.strip_prefix(DOCKER_HUB));
    short.unwrap_or(&whole).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_sees_the_names_it_shows() {
        for (name, familiar_name) in [
            ("perconalab/valkey:9.0.3", "perconalab/valkey:9.0.3"),
            ("valkey:9", "valkey:9"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
        ] {
            assert_eq!(familiar(&parse_reference(name).unwrap()), familiar_name);
        }
    }
}
