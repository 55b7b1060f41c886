//! What a scenario stands on.
//!
//! | module | what is in it |
//! |---|---|
//! | [`cluster`] | where a run takes place: the `Cluster` trait and its providers |
//! | [`release`] | what Helm does with manifests: install, upgrade, test, uninstall, hooks |
//! | [`valkey`] | connections, and the topology as each node sees it |
//! | [`checks`] | one file per promise; observations in, violations out |
//! | [`wait`] | the one waiting primitive |
//! | [`timeline`] | everything that happened, on one clock |
//! | [`images`] | the images of a run: the store, registries, archives, stand-ins |
//! | [`diagnostics`] | what a person would fetch by hand after a failure, and the triage |
//! | [`trial`] | one scenario in one combination: its namespace, its context, its clean-up |
//! | [`report`] | the run's record, and its projections |

pub mod checks;
pub mod cluster;
pub mod diagnostics;
pub mod images;
pub mod release;
pub mod report;
pub mod secret;
pub mod timeline;
pub mod trial;
pub mod valkey;
pub mod wait;
