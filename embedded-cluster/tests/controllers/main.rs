//! The controllers against the real API server, with a node that only says pods run: no process, no namespace.

mod others;
mod stateful_sets;
mod support;
