//! The run's record, and its projections.
//!
//! | module | what is in it |
//! |---|---|
//! | [`model`] | [`RunReport`]: the only thing that reporters of a finished run read |
//! | [`record`] | the observations of a trial: promises, slot maps, gaps, key fates, the timeline |
//! | [`deployment`] | the deployment: commit, manifests, values |
//! | [`defect`] | a defect, as one trial shows it |
//! | [`finding`] | a defect, over all trials |
//! | [`known`] | accepted findings |
//! | [`verdict`] | the verdict of a run, derived from its trials |
//! | [`baseline`] | the differences from an earlier run |
//! | [`schema`] | the published JSON Schema of `report.json` |
//! | [`event`] | events of the running code, and their listeners |
//! | [`plain`] | one line per event, for CI and pipes |
//! | [`progress`] | a live view on a terminal, with a bar |
//! | [`summary`] | the verdict and the failures at the end |
//! | `grid` | the table of scenarios and combinations, as wide as the terminal |
//! | `layout` | text that fits the terminal |
//! | [`style`] | colours and the line width |
//! | [`outputs`] | every file of a finished run's report |
//! | [`mod@file`] | `report.json`; files are complete or absent |
//! | [`html`] | one page for people, complete in itself |
//! | [`junit`] | JUnit XML, for CI systems |
//! | [`markdown`] | a job's summary, and a note for a release |
//! | [`journal`] | results written as they arrive, and the recovery of a killed run's report |
//! | [`merge`] | one report out of several |
//! | [`history`] | many runs: pass rates, flakes, durations |

pub mod baseline;
pub mod defect;
pub mod deployment;
pub mod event;
pub mod file;
pub mod finding;
mod grid;
pub mod history;
pub mod html;
pub mod journal;
pub mod junit;
pub mod known;
mod layout;
pub mod markdown;
pub mod merge;
pub mod model;
pub mod outputs;
pub mod plain;
pub mod printable;
pub mod progress;
pub mod record;
pub mod schema;
pub mod style;
pub mod summary;
pub mod verdict;

pub use event::{Event, EventSink, Reporter};
pub use model::{Outcome, RunReport, RunVerdict, StepReport, TrialReport};
pub use record::TrialRecord;
