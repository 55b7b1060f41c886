//! placeholder
pub struct EmbeddedProvider;
