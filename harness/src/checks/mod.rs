//! The promises, one file each: observations in, every violation out.
//!
//! A check is a pure function. It never panics, never stops at the first finding, and knows nothing of scenarios.
//! What must *not* be called a failure is written beside the rule that could.

mod violation;

pub use violation::Violation;
