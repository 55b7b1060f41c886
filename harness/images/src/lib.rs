//! The images of a run: their origins and their stand-ins.
//!
//! | module | what is in it |
//! |---|---|
//! | [`prepare()`] | puts a run's images into the store before the cluster needs them |
//! | [`source`] | `--image-source` |
//! | [`provenance`] | the images that ran, with their origin |
//! | [`SeenImages`] | the images that ran on a cluster which obtains them itself |
//! | [`stand_in`] | replacements for images that are not available |
//! | [`cache_dir()`] | the folder that keeps images and downloads between runs |
//!
//! The store, registries and archives are in `embedded_cluster::images`, which is independent of
//! Valkey.

mod cache_dir;
mod prepare;
mod provenance;
mod seen;
mod source;
pub mod stand_in;

pub use cache_dir::{CACHE_VARIABLE, CacheDirError, cache_dir};
pub use prepare::{PrepareError, host_binaries, open_store, prepare};
pub use provenance::{Origin, Provenance, pins};
pub use seen::SeenImages;
pub use source::{ImageSource, ImageSourceError};
