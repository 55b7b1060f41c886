//! Defects as data: a broken promise as a check reports it.

mod violation;

pub use violation::{Violation, merge_views};
