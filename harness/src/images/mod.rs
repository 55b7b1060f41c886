//! The images that a run uses: where they come from, and what takes their place.
//!
//! | module | what is in it |
//! |---|---|
//! | [`prepare()`] | puts a run's images into the store, before the cluster needs them |
//! | [`source`] | `--image-source` |
//! | [`provenance`] | which image ran, and where it came from |
//! | [`SeenImages`] | which images a cluster ran that gets them by itself |
//! | [`stand_in`] | what takes the place of an image that cannot be had |
//! | [`cache_dir()`] | where it is all kept between runs |
//!
//! The store itself, registries and archives are `embedded_cluster::images`, which knows nothing of Valkey.

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
