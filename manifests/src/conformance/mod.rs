//! Render conformance: what each parameter changes in what is rendered, and nothing else.
//!
//! - [`objects`]: rendered objects under the names of their roles, in a form that can be compared field by field;
//! - [`difference`]: the fields in which two renderings differ;
//! - [`case`]: the table `parameters.yaml`, a case or more for each parameter;
//! - [`judge`]: a case against two renderings, ours or those of a chart on disk.
//!
//! Nothing here renders: that is for the caller, who brings [`crate::render`] or `helm template`.

pub mod case;
pub mod difference;
pub mod judge;
pub mod objects;

pub use case::{Case, cases};
pub use difference::{Difference, differences};
pub use judge::{Finding, Renderer, Verdict, judge};
pub use objects::Objects;
