//! The kubelet of the embedded cluster.

mod helper;
mod launcher;
mod reaper;
mod sandbox;
mod spec;

pub use helper::{HELPER_ARGUMENT, helper_main};
pub use reaper::{Child, Exit, Reaper};
