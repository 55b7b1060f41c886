//! The images of a run and their origin, for the report. A run also stays on the images that it
//! began with.

use embedded_cluster::images::{Image, Pins};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stand_in::{BUILT_FROM_LABEL, STAND_IN_LABEL};

/// The origin of an image in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Pulled from the registry.
    Registry,
    /// Found in the store, from an earlier run.
    Store,
    /// Found in the archive that the user gave.
    Archive,
    /// Built on this machine.
    StandIn,
    /// Provided or pulled by the cluster itself.
    Cluster,
}

/// One image of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ImageProvenance")]
pub struct Provenance {
    /// The reference in the manifests.
    pub reference: String,
    /// The digest of its manifest.
    pub digest: String,
    /// Its origin in this run.
    pub source: Origin,
    /// True for a stand-in. A run with stand-ins qualifies the deployment, not the image. An
    /// archive may also contain a stand-in.
    pub stand_in: bool,
    /// The server's version. A stand-in's server reports it; any other image has it in a label.
    pub server_version: Option<String>,
    /// The parts of a stand-in.
    pub built_from: Option<String>,
    /// The reason for this origin, when it was not simply requested.
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

/// Returns true if an image is a stand-in, regardless of its origin.
pub(super) fn is_stand_in(image: &Image) -> bool {
    image.config.get_config_annotation(STAND_IN_LABEL).is_some()
}

/// Returns the digest for each reference of a run. The cluster uses these, even if another run
/// changes the shared store.
#[must_use]
pub fn pins(images: &[Provenance]) -> Pins {
    images
        .iter()
        .map(|image| (image.reference.clone(), image.digest.clone()))
        .collect()
}
