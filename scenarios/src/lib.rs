//! The suites: one file each, and the modules that list, select and run their trials.
//!
//! | module | what is in it |
//! |---|---|
//! | [`formation`] | a deployment becomes healthy |
//! | [`connection`] | clients connect with the password, and only with the password |
//! | [`security`] | containers run as declared |
//! | [`persistence`] | data outlives pods |
//! | [`faults`] | servers fail, and the guarantees of Valkey hold |
//! | [`scaling`] | pods are added and removed, every key stays |
//! | [`rotation`] | passwords change, every key stays |
//! | [`upgrades`] | a release is upgraded and rolled back |
//! | [`examples`] | the README's own values files, deployed |
//! | [`conformance`] | a chart on disk: every parameter changes what it should, and nothing else |
//! | [`mod@scenario`] | the definition of a scenario, and its registration |
//! | [`registry`] | every suite, and its trials |
//! | [`selection`] | the trials that the command line selects |
//! | [`shard`] | a run in several parts |
//! | [`session`] | images and cluster for a run or a test process |
//! | [`test_session`] | one session for all tests of a process |
//! | [`runner`] | trials in parallel, the report, Ctrl-C |
//!
//! A new scenario is an async function over a [`Context`] and one line in its file's `SUITE`.

pub mod conformance;
pub mod connection;
pub mod examples;
pub mod faults;
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
pub mod test_session;
pub mod upgrades;

pub use harness::trial::Context;
