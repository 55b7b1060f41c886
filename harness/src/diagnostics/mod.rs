//! What a person would fetch by hand after a failure, and what that person would conclude first.
//!
//! | module | what is in it |
//! |---|---|
//! | [`evidence`] | what was found, as values |
//! | [`collect`] | fetching it, within a bounded time, before anything is deleted |
//! | [`write`] | one file per thing, without passwords |
//! | `unformed` | why no cluster was ever formed |
//! | [`triage`] | the most likely cause, in one sentence: a table of rules over the evidence |

mod collect;
pub mod evidence;
mod triage;
mod unformed;
mod write;

pub use collect::collect;
pub use evidence::Evidence;
pub use triage::triage;
pub use write::write;
