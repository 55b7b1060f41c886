//! What a person would fetch by hand after a failure, and what that person would conclude first.
//!
//! | module | what is in it |
//! |---|---|
//! | [`evidence`] | what was found, as values |
//! | [`collect`] | fetching it, within a bounded time, before anything is deleted |
//! | [`exhibits`] | the ends of its texts, for the report |
//! | `gist` | the part of it that the triage reads, for a file and for the triage's own tests |
//! | [`facts`] | the most telling facts, when no rule knows the cause |
//! | [`write`] | one file per thing, without passwords |
//! | `unformed` | why no cluster was ever formed |
//! | [`triage`] | the most likely cause, in one sentence: a table of rules over the evidence |

mod collect;
pub mod evidence;
mod exhibits;
mod facts;
mod gist;
mod triage;
mod unformed;
mod write;

pub use collect::collect;
pub use evidence::Evidence;
pub use exhibits::exhibits;
pub use facts::telling_facts;
pub use gist::GIST_FILE;
pub use triage::{recognised, rules, triage};
pub use write::write;
