//! Container images: where they are kept, how they get there, and how they become a root file system.
//!
//! | module | what is in it |
//! |---|---|
//! | [`store`] | [`ImageStore`]: an OCI layout on disk, shared by every process of this user |
//! | [`blobs`] | content-addressed files, verified when read |
//! | [`index`] | which reference names which manifest |
//! | [`scratch`] | temporary folders that outlive no process |
//! | [`rootfs`] | a manifest's layers, applied in order to an empty folder |
//! | [`layer`] | one layer: its entries and its whiteouts |
//! | [`confined`] | a folder that no path, however malicious, leads out of |
//! | [`new_image`] | building an image out of files, the same bytes every time |
//! | [`archive`] | `docker save` and OCI archives, in and out |
//! | [`pull`] | registries |
//! | [`credentials`] | what `docker login` left behind |
//! | [`error`] | what can go wrong |
//!
//! Nothing here knows what is inside an image. What the images of a suite are, and what replaces one that
//! cannot be had, is its owner's business.

mod archive;
mod blobs;
mod confined;
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
