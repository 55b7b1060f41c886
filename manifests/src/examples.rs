//! The four example values files of the chart's README, as they are in `examples/`.

use crate::values::chart_values::overlay;
use crate::values::{Values, ValuesError, ValuesInput};

/// A values file of the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// The file's name.
    pub file: &'static str,
    /// The content.
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
/// The hardened image, with an existing Secret.
pub const HARDENED: Example = example!("values-hardened.yaml");
/// Custom directives.
pub const CUSTOM: Example = example!("values-custom.yaml");
/// All examples, in the README's order.
pub const ALL: [Example; 4] = [STANDALONE, CLUSTER, HARDENED, CUSTOM];

impl Example {
    /// Returns the file's values, laid over the chart's defaults.
    ///
    /// # Errors
    /// Returns the problems of the values. A test rules them out for the files of this crate.
    pub fn values(&self) -> Result<Values, ValuesError> {
        ValuesInput::new().file(self.file, self.text).resolve()
    }

    /// Returns the file's values, laid over `base`, the defaults of another chart.
    ///
    /// # Panics
    /// Never for a file of this crate; a test ensures that.
    #[must_use]
    pub fn over(&self, base: &Values) -> Values {
        let mut tree = serde_json::to_value(base).expect("values are plain JSON");
        let file = serde_yaml::from_str(self.text).expect("the file is part of the crate, and tested");
        overlay(&mut tree, file);
        serde_json::from_value(tree).expect("the file is part of the crate, and tested")
    }
}
