//! The suites: one file each, and what lists, selects and runs their trials.
//!
//! | module | what is in it |
//! |---|---|
//! | [`formation`] | a deployment comes up, and stays as it is |
//! | [`connection`] | clients get in, with the password and only with it |
//! | [`security`] | containers run as declared |
//! | [`persistence`] | data outlives pods |
//! | [`scaling`] | pods come and go, every key stays |
//! | [`rotation`] | passwords change, every key stays |
//! | [`upgrades`] | a release goes forward and back |
//! | [`examples`] | the README's own values files, deployed |
//! | [`conformance`] | a chart on disk: every parameter changes what it should, and nothing else |
//! | [`scenario`] | what a scenario is, and how one is registered |
//! | [`registry`] | every suite, and the trials that follow from them |
//! | [`selection`] | which trials a person asked for |
//! | [`shard`] | a run in several parts |
//! | [`session`] | images and cluster for a run or a test process |
//! | [`shared`] | one session for all tests of a process |
//! | [`runner`] | trials in parallel, the report, Ctrl-C |
//!
//! A new scenario is an async function over a [`Context`] and one line in its file's `SUITE`.

pub mod conformance;
pub mod connection;
pub mod examples;
pub mod formation;
pub mod persistence;
pub mod registry;
pub mod rotation;
pub mod runner;
pub mod scaling;
pub mod scenario;
pub mod security;
pub mod selection;
pub mod session;
pub mod shard;
pub mod shared;
pub mod upgrades;

pub use harness::trial::Context;
