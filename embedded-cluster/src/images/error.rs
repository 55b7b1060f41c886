//! Errors of stored images. Errors of a pull from a registry are [`PullError`](super::PullError).

use std::io;
use std::path::PathBuf;

/// An operation of an image store that failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file or folder of the store, or an archive, could not be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// The action, as a verb: "open", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A name that is not a valid image reference.
    #[error("read `{reference}` as an image reference")]
    Reference {
        /// The name as given.
        reference: String,
        /// The cause.
        source: oci_client::ParseError,
    },
    /// A blob with content that does not match its digest. The blob has been deleted, so obtaining
    /// the image again repairs the store.
    #[error("verify blob {expected}: its content is {found}; it was removed, obtain the image again")]
    CorruptBlob {
        /// The digest in the blob's name.
        expected: String,
        /// The digest of the blob's content.
        found: String,
    },
    /// An image that refers to a blob missing from the store.
    #[error("find blob {digest} of an image that the store lists; obtain the image again")]
    MissingBlob {
        /// The blob's digest.
        digest: String,
    },
    /// JSON (an index, a manifest, a configuration) that cannot be parsed.
    #[error("parse {subject}")]
    Json {
        /// The document.
        subject: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// An archive or image that can be read as a file but is not a valid image.
    #[error("use {subject}: {problem}")]
    Malformed {
        /// The archive, manifest or layer.
        subject: String,
        /// The problem.
        problem: String,
    },
    /// A layer entry with a path outside the root file system or with a file type that images
    /// cannot contain.
    #[error("unpack `{entry}` of layer {layer}: {problem}")]
    Entry {
        /// The layer's digest.
        layer: String,
        /// The entry's path in the layer.
        entry: String,
        /// The problem.
        problem: String,
    },
    /// A layer with an unsupported compression.
    #[error("unpack layer {layer}: media type {media_type} is not supported (tar and tar+gzip are)")]
    LayerMediaType {
        /// The layer's digest.
        layer: String,
        /// The media type that the manifest declares.
        media_type: String,
    },
    /// A multi-platform image without an image for this platform.
    #[error("use {subject}: it has no image for {wanted}, only for {available}")]
    Platform {
        /// The index, by its digest or archive.
        subject: String,
        /// The platform of this machine.
        wanted: String,
        /// The available platforms.
        available: String,
    },
}

impl ImageError {
    /// Returns true if the store itself is damaged. Obtaining the image again then repairs the
    /// store.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::CorruptBlob { .. } | Self::MissingBlob { .. } | Self::Json { .. }
        )
    }

    pub(super) fn malformed(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Malformed {
            subject: subject.into(),
            problem: problem.into(),
        }
    }
}

/// Adds the action and the path to an [`io::Error`].
pub(super) trait IoContext<T> {
    fn doing(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, ImageError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn doing(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, ImageError> {
        self.map_err(|source| ImageError::Io {
            action,
            path: path.into(),
            source: source.into(),
        })
    }
}
