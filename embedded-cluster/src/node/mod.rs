//! The kubelet of the embedded cluster.

mod helper;
#[doc(hidden)]
pub mod scratch;
mod launcher;
mod reaper;
mod sandbox;
mod spec;

pub use helper::{HELPER_ARGUMENT, helper_main};
pub use reaper::{Child, Exit, Reaper};
