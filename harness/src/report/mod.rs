//! The run's record, and its projections.
//!
//! | module | what is in it |
//! |---|---|
//! | [`model`] | [`RunReport`]: the only thing that reporters of a finished run read |
//! | [`record`] | what was seen during a trial: promises, slot maps, gaps, key fates, the timeline |
//! | [`deployment`] | what was deployed: commit, manifests, values |
//! | [`verdict`] | what a run says, derived from its trials |
//! | [`baseline`] | what is different from an earlier run |
//! | [`schema`] | the published JSON Schema of `report.json` |
//! | [`event`] | what the running code says while it runs, and who listens |
//! | [`plain`] | one line per event, for CI and pipes |
//! | [`progress`] | the same on a terminal, with a bar |
//! | [`summary`] | the verdict and the failures at the end |
//! | `grid` | the table of scenarios and combinations, as wide as the terminal |
//! | `layout` | text that fits the terminal |
//! | [`style`] | colours, and how wide a line may be |
//! | [`outputs`] | every file of a finished run's report |
//! | [`file`] | `report.json`; files are complete or absent |
//! | [`html`] | one page for people, complete in itself |
//! | [`junit`] | JUnit XML, for CI systems |
//! | [`markdown`] | a job's summary, and a note for a release |
//! | [`journal`] | what has finished, written as it finishes; making a report of a killed run's |
//! | [`merge`] | one report out of several |
//! | [`history`] | many runs: pass rates, flakes, durations |

pub mod baseline;
pub mod deployment;
pub mod event;
pub mod file;
mod grid;
pub mod history;
pub mod html;
pub mod journal;
pub mod junit;
mod layout;
pub mod markdown;
pub mod merge;
pub mod model;
pub mod outputs;
pub mod plain;
pub mod progress;
pub mod record;
pub mod schema;
pub mod style;
pub mod summary;
pub mod verdict;

pub use event::{Event, EventSink, Reporter};
pub use model::{Outcome, RunReport, RunVerdict, StepReport, TrialReport};
pub use record::TrialRecord;
