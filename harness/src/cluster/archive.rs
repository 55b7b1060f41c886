//! The run's images as one archive, for a provider whose container runtime takes no other.

use std::path::{Path, PathBuf};

use embedded_cluster::images::ImageStore;
use tempfile::TempDir;

use super::ClusterError;
use crate::images;

/// An archive of images, gone when it is dropped.
#[derive(Debug)]
pub(super) struct Archive {
    folder: TempDir,
}

impl Archive {
    /// Writes the images, which `store` has, into one archive.
    ///
    /// # Errors
    /// When the store lacks one, or the archive cannot be written.
    pub(super) async fn of(store: &ImageStore, images: &[images::Provenance]) -> Result<Self, ClusterError> {
        let folder = tempfile::tempdir().map_err(|source| ClusterError::Images(source.into()))?;
        let archive = Self { folder };
        let (store, path) = (store.clone(), archive.path());
        let references: Vec<String> = images.iter().map(|image| image.reference.clone()).collect();
        let exported = tokio::task::spawn_blocking(move || {
            let references: Vec<&str> = references.iter().map(String::as_str).collect();
            store.export_archive(&references, path)
        });
        let exported = exported.await.expect("writing an archive does not panic");
        exported.map_err(|source| ClusterError::Images(source.into()))?;
        Ok(archive)
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        Path::join(self.folder.path(), "images.tar")
    }
}
