//! The run's record, and its projections.
//!
//! | module | what is in it |
//! |---|---|
//! | [`model`] | [`RunReport`]: the only thing that reporters of a finished run read |
//! | [`event`] | what the running code says while it runs, and who listens |
//! | [`plain`] | one line per event, for CI and pipes |
//! | [`progress`] | the same on a terminal, with a bar |
//! | [`summary`] | the table, the verdict and the failures at the end |
//! | [`file`] | `report.json` and the evidence folders |

pub mod event;
pub mod file;
pub mod model;
pub mod plain;
pub mod progress;
pub mod style;
pub mod summary;

pub use event::{Event, EventSink, Reporter};
pub use model::{Outcome, RunReport, RunVerdict, StepReport, TrialReport};
