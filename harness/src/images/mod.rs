//! The images that a run uses: where they come from, and what takes their place.

mod cache_dir;
pub mod stand_in;

pub use cache_dir::{CACHE_VARIABLE, CacheDirError, cache_dir};
