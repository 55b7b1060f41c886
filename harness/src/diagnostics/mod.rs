//! Evidence that a person would fetch by hand after a failure, and the first conclusions from it.
//!
//! | module | what is in it |
//! |---|---|
//! | [`evidence`] | what was found, as values |
//! | `collect` | fetching it, within a bounded time, before anything is deleted |
//! | [`exhibits`] | the ends of its texts, for the report |
//! | `gist` | the part of it that the triage reads, for a file and for the triage's own tests |
//! | [`facts`] | the most relevant facts, when no rule knows the cause |
//! | [`mod@write`] | one file per thing, without passwords |
//! | `unformed` | why no cluster was ever formed |
//! | [`failure`] | the act that failed and the promises that it broke, read off the error's types |
//! | [`cause`] | causes as values, and the sentence of each |
//! | `explains` | which violations a cause explains |
//! | `triage` | a table of rules over the evidence, one for each cause |
//! | [`defects`] | the defects that a trial shows: its causes, and the violations that no cause explains |

pub mod cause;
mod collect;
pub mod defects;
pub mod evidence;
mod exhibits;
mod explains;
mod facts;
pub mod failure;
mod gist;
mod triage;
mod unformed;
mod write;

pub use cause::Cause;
pub(crate) use collect::collect;
pub use evidence::Evidence;
pub use exhibits::exhibits;
pub use facts::relevant_facts;
pub use gist::GIST_FILE;
pub use triage::{Recognised, diagnose, recognised, rules};
pub use write::write;
