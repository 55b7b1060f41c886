//! The foundation of scenarios: trials, their evidence, and the crates below under their own names.
//!
//! | module | what is in it |
//! |---|---|
//! | [`trial`] | one scenario in one combination: its namespace, its context, its clean-up |
//! | [`lifecycle`] | the course of one trial: namespace, body, evidence, clean-up, report |
//! | [`diagnostics`] | the evidence after a failure, and the triage |
//!
//! The crates below are folders of this one, in order from the lowest. A crate depends only on
//! crates above it in this table:
//!
//! | crate | what is in it |
//! |---|---|
//! | [`wait`] | the one waiting primitive |
//! | `programs` | programs that a run starts and that must not outlive it |
//! | [`secret`] | a run's passwords, and their redaction |
//! | [`timeline`] | everything that happened, on one clock |
//! | [`findings`] | broken promises as data |
//! | [`valkey`] | connections, the topology as each node sees it, ledger and load |
//! | [`checks`] | one file per promise; observations in, violations out |
//! | [`images`] | the images of a run: the store, registries, archives, stand-ins |
//! | [`release`] | Helm's work on manifests: install, upgrade, test, uninstall, hooks |
//! | [`settings`] | the settings of a run: profile, placement, labels |
//! | [`clusters`] | the clusters of a run: the `Cluster` trait and its providers |
//! | [`report`] | the run's record, and its projections |

pub mod diagnostics;
pub mod lifecycle;
pub mod trial;

pub use clusters as cluster;
pub use {checks, clusters, findings, images, release, report, secret, settings, timeline, valkey, wait};
