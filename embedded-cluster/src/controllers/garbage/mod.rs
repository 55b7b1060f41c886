//! Garbage collection: dependents of owners that are gone, foreground and orphan deletions.
//!
//! | module | what is in it |
//! |---|---|
//! | `graph` | owners and dependents by UID, and the tasks that follow from a change; pure |
//! | `collect` | executes the tasks |
//!
//! Covers the kinds that the hub watches: every kind that has owners here.

mod collect;
mod graph;

pub(crate) use collect::run;
