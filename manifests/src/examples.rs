//! The four example values files of the chart's README, as they are in `examples/`.

use crate::values::{Values, ValuesError, ValuesInput};

/// A values file of the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// The file's name.
    pub file: &'static str,
    /// What is in it.
    pub text: &'static str,
}

macro_rules! example {
    ($file:literal) => {
        Example {
            file: $file,
            text: include_str!(concat!("../examples/", $file)),
        }
    };
}

/// One server with a password, limits and an eviction policy.
pub const STANDALONE: Example = example!("values-standalone.yaml");
/// Nine nodes: three primaries with two replicas each.
pub const CLUSTER: Example = example!("values-cluster.yaml");
/// The hardened image, with a Secret of the user's.
pub const HARDENED: Example = example!("values-hardened.yaml");
/// Directives of the user's own.
pub const CUSTOM: Example = example!("values-custom.yaml");
/// All of them, in the README's order.
pub const ALL: [Example; 4] = [STANDALONE, CLUSTER, HARDENED, CUSTOM];

impl Example {
    /// The file, laid over the chart's defaults.
    ///
    /// # Errors
    /// Values that the chart does not take; never for a file of this crate, which a test holds.
    pub fn values(&self) -> Result<Values, ValuesError> {
        ValuesInput::new().file(self.file, self.text).resolve()
    }
}
