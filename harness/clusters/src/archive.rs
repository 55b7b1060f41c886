//! The run's images as one archive, for a container runtime that accepts no other form.

use std::path::{Path, PathBuf};

use embedded_cluster::images::ImageStore;
use tempfile::TempDir;

use super::ClusterError;

/// An archive of images. Dropping it deletes the file.
#[derive(Debug)]
pub(super) struct Archive {
    folder: TempDir,
}

impl Archive {
    /// Writes the run's images from `store` into one archive.
    ///
    /// # Errors
    /// When the store lacks an image, or the archive cannot be written.
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

    /// Returns the path of the archive.
    pub(super) fn path(&self) -> PathBuf {
        Path::join(self.folder.path(), "images.tar")
    }
}
