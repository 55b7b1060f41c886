//! Which image ran, and where it came from: for the report, and to keep a run on the images it began with.

use embedded_cluster::images::{Image, Pins};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stand_in::{BUILT_FROM_LABEL, STAND_IN_LABEL};

/// Where an image came from in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It was pulled.
    Registry,
    /// It was in the store, from an earlier run.
    Store,
    /// It was in the archive that the user gave.
    Archive,
    /// It was built here.
    StandIn,
    /// The cluster had it, or pulled it by itself.
    Cluster,
}

/// One image of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ImageProvenance")]
pub struct Provenance {
    /// The reference as the manifests have it.
    pub reference: String,
    /// The digest of its manifest.
    pub digest: String,
    /// Where it came from in this run.
    pub source: Origin,
    /// Whether it only stands for the image of this name: such a run qualifies the deployment, not the image. An
    /// archive may hold one too.
    pub stand_in: bool,
    /// The server's version: what a stand-in's server says itself, and what the label of any other image says.
    pub server_version: Option<String>,
    /// What a stand-in is made of.
    pub built_from: Option<String>,
    /// Why it came from there, where that was not simply asked for.
    pub reason: Option<String>,
}

impl Provenance {
    pub(super) fn new(reference: &str, image: &Image, source: Origin) -> Self {
        let label = |name: &str| image.config.get_config_annotation(name).map(str::to_owned);
        Self {
            reference: reference.to_owned(),
            digest: image.digest.clone(),
            source,
            stand_in: is_stand_in(image),
            server_version: image.config.version().map(str::to_owned),
            built_from: label(BUILT_FROM_LABEL),
            reason: None,
        }
    }
}

/// Whether an image is a stand-in, wherever it was found.
pub(super) fn is_stand_in(image: &Image) -> bool {
    image.config.get_config_annotation(STAND_IN_LABEL).is_some()
}

/// What the references of a run mean to its cluster, whatever another run makes of the shared store.
#[must_use]
pub fn pins(images: &[Provenance]) -> Pins {
    images
        .iter()
        .map(|image| (image.reference.clone(), image.digest.clone()))
        .collect()
}
