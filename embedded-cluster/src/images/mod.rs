//! Container images: storage, transfer, and unpacking into a root file system.
//!
//! | module | what is in it |
//! | [`store`] | [`ImageStore`]: an OCI layout on disk, shared by all processes of this user |
//! | [`blobs`] | content-addressed files, verified when read |
//! | [`index`] | the map from references to manifests |
//! | [`scratch`] | temporary folders, removed at the latest after their process has ended |
//! | [`scratch`] | temporary folders, removed with their process or by a later one |
//! | [`layer`] | applies one layer: its entries and its whiteouts |
//! | [`new_image`] | builds images from files, reproducibly |
//! | [`archive`] | imports and exports `docker save` and OCI archives |
//! | [`pull`] | pulls images from registries |
//! | [`credentials`] | registry credentials stored by `docker login` |
//! | [`error`] | errors of stored images |
//!
//! This module does not depend on the content of images. The test suite chooses its images and
//! their replacements.

mod archive;
mod blobs;
mod credentials;
mod error;
mod index;
mod layer;
mod new_image;
mod pull;
mod rootfs;
mod scratch;
mod store;

pub use credentials::Credentials;
pub use error::ImageError;
pub use index::full_name;
pub use new_image::{LayerBuilder, NewImage};
pub use pull::PullError;
pub use store::{Image, ImageStore, Pins, StoredImage};
