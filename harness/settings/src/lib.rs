//! Settings of a run: plain data that clusters, trials and reports share.
//!
//! | module | content |
//! |---|---|
//! | [`profile`] | values and deadlines of a run: `fast` or the chart's own |
//! | [`placement`] | a site's demands on namespaces and values |
//! | [`program()`] | the words that start this program |
//! | [`labels`] | the label that identifies everything that a run makes |

pub mod labels;
pub mod placement;
pub mod profile;
mod program;

pub use labels::{RUN_LABEL, run_selector};
pub use placement::Placement;
pub use profile::{Deadlines, Profile};
pub use program::{INSTALLED, program};
