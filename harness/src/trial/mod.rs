//! One trial: a scenario in one mode and variant, in a namespace of its own, with evidence and clean-up.
//!
//! | module | what is in it |
//! |---|---|
//! | [`id`] | which scenario, in which mode and variant; its name and namespace |
//! | [`profile`] | which values and deadlines a run uses: `fast` or the chart's own |
//! | [`placement`] | what a site asks of namespaces and values |
//! | [`namespace`] | a trial's own namespace: made, labelled, and deleted again |
//! | [`environment`] | what all trials of a run share |
//! | [`context`] | what a scenario acts through: install, observe, verify, exec |
//! | [`observer`] | looking at a release without changing it |
//! | [`health`] | waiting until every promise holds |
//! | [`canaries`] | a key in every slot |
//! | [`objects`] | what Kubernetes holds of the release |
//! | [`inside`] | what a container looks like from inside |
//! | [`exec`] | commands inside containers |
//! | [`steps`] | what was done, when, and for how long |
//! | [`error`] | why an act did not succeed |
//! | [`run`] | the life of a trial: namespace, body, evidence, clean-up, report |

pub mod canaries;
pub mod context;
pub mod environment;
pub mod error;
pub mod exec;
pub mod health;
pub mod id;
pub mod inside;
pub mod namespace;
pub mod objects;
pub mod observer;
pub mod placement;
pub mod profile;
pub mod run;
pub mod steps;

pub use context::Context;
pub use environment::Environment;
pub use error::TrialError;
pub use exec::{ExecEnd, ExecOutput};
pub use id::TrialId;
pub use observer::Observer;
pub use placement::Placement;
pub use profile::Profile;
