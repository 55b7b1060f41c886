//! Garbage collection: dependents of owners that are gone, foreground and orphan deletions.
//!
//! | module | what is in it |
//! |---|---|
//! | `graph` | who owns whom, by UID, and what follows from a change; pure |
//! | `collect` | carries it out |
//!
//! Covers the kinds the hub watches, which is every kind that has owners here.

mod collect;
mod graph;

pub(crate) use collect::run;
