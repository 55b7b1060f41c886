//! Render conformance: each parameter changes its own fields in the rendering, and no others.
//!
//! - [`objects`]: rendered objects by role, in a form that can be compared field by field;
//! - `defaults` and `canonical`: remove irrelevant differences, Kubernetes' defaults and a chart's
//!   own names;
//! - [`difference`]: the fields in which two renderings differ;
//! - [`case`]: the table `parameters.yaml`, with at least one case for each parameter;
//! - [`mod@judge`]: judges a case on two renderings, ours or those of a chart on disk.
//!
//! This module does not render. The caller does, with [`mod@crate::render`] or `helm template`.

mod canonical;
pub mod case;
mod defaults;
pub mod difference;
pub mod judge;
pub mod objects;

pub use case::{Case, cases};
pub use difference::{Difference, differences};
pub use judge::{Finding, Renderer, Verdict, judge};
pub use objects::Objects;
