//! Import and export of image archives. Imports the output of `docker save`, `skopeo` and
//! `buildah`. Exports for `docker load`, `kind load image-archive` and `ctr image import`.
//!
//! | module | what is in it |
//! |---|---|
//! | [`import`] | imports an archive's images into a store |
//! | [`export`] | exports a store's images into an archive |
//! | [`contents`] | an archive's files, staged and found by name |

mod contents;
mod export;
mod import;

pub(super) use import::choose_platform;

/// An image's entry in `manifest.json`, the file that Docker reads first.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    /// Path of the configuration in the archive.
    config: String,
    /// Names of the image; Docker writes `null` for an image without names.
    repo_tags: Option<Vec<String>>,
    /// Paths of the layers in the archive, lowest layer first.
    layers: Vec<String>,
}
