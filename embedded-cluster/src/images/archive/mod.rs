//! Images as files: what `docker save`, `skopeo` and `buildah` write comes in, and what `docker load`,
//! `kind load image-archive` and `ctr image import` read goes out.
//!
//! | module | what is in it |
//! |---|---|
//! | [`import`] | an archive's images into a store |
//! | [`export`] | a store's images into an archive |
//! | [`contents`] | an archive's files, staged by name |

mod contents;
mod export;
mod import;

pub(super) use import::choose_platform;

/// One image of `manifest.json`, the file that Docker reads first.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    /// The configuration's path in the archive.
    config: String,
    /// The image's names; Docker writes `null` for an image without.
    repo_tags: Option<Vec<String>>,
    /// The layers' paths in the archive, the lowest first.
    layers: Vec<String>,
}
