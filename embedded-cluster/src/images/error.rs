//! What can go wrong with a stored image. What can go wrong on the way from a registry is
//! [`PullError`](super::PullError).

use std::io;
use std::path::PathBuf;

/// An image store that could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file or folder of the store, or an archive, could not be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done, as a verb: "open", "create".
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A name that is no image reference.
    #[error("read `{reference}` as an image reference")]
    Reference {
        /// The name as given.
        reference: String,
        /// What is wrong with it.
        source: oci_client::ParseError,
    },
    /// A blob whose bytes are not the ones that its name promises. It has been deleted, so that obtaining the
    /// image again mends the store.
    #[error("verify blob {expected}: its content is {found}; it was removed, obtain the image again")]
    CorruptBlob {
        /// The digest that the blob is named by.
        expected: String,
        /// The digest of what it holds.
        found: String,
    },
    /// An image that refers to a blob which the store does not have.
    #[error("find blob {digest} of an image that the store lists; obtain the image again")]
    MissingBlob {
        /// The blob's digest.
        digest: String,
    },
    /// JSON (an index, a manifest, a configuration) that cannot be understood.
    #[error("parse {subject}")]
    Json {
        /// Which document.
        subject: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An archive or image that is well formed as a file and wrong as an image.
    #[error("use {subject}: {problem}")]
    Malformed {
        /// The archive, manifest or layer.
        subject: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A layer entry that would have been written outside the root file system, or that is no kind of file that
    /// an image may hold.
    #[error("unpack `{entry}` of layer {layer}: {problem}")]
    Entry {
        /// The layer's digest.
        layer: String,
        /// The entry's path in the layer.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A layer compressed in a way that is not supported.
    #[error("unpack layer {layer}: media type {media_type} is not supported (tar and tar+gzip are)")]
    LayerMediaType {
        /// The layer's digest.
        layer: String,
        /// Its declared media type.
        media_type: String,
    },
    /// No image of this platform in a multi-platform image.
    #[error("use {subject}: it has no image for {wanted}, only for {available}")]
    Platform {
        /// The index's digest or archive.
        subject: String,
        /// The platform of this machine.
        wanted: String,
        /// The platforms that there are.
        available: String,
    },
}

impl ImageError {
    /// Whether the store itself is damaged, so that obtaining the image again mends it.
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

/// Adds to an [`io::Error`] what was being done, and to what.
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
