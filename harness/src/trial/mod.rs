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
//! | [`data`] | keys in every slot, written and accounted for |
//! | [`availability`] | writers that go on while something is done |
//! | [`operations`] | scaling and restarting, with proof that it took place |
//! | [`departures`] | what the others knew of a pod when it was taken away |
//! | [`faults`] | what is done to single servers and Jobs |
//! | [`passwords`] | Secrets, and the passwords in them |
//! | [`history`] | what was seen so far, and must never be seen again |
//! | `hopeless` | states of the servers that do not heal by waiting |
//! | [`generated_password`] | a password that nobody gave, kept over an upgrade |
//! | [`objects`] | what Kubernetes holds of the release |
//! | [`inside`] | what a container looks like from inside |
//! | [`exec`] | commands inside containers |
//! | [`recording`] | what a scenario puts into the report |
//! | [`steps`] | what was done, when, and for how long |
//! | [`error`] | why an act did not succeed |
//! | [`run`] | the life of a trial: namespace, body, evidence, clean-up, report |

pub mod availability;
pub mod context;
pub mod data;
pub mod departures;
pub mod environment;
pub mod error;
pub mod exec;
pub mod faults;
pub mod generated_password;
pub mod health;
pub mod history;
pub(crate) mod hopeless;
pub mod id;
pub mod inside;
pub mod namespace;
pub mod objects;
pub mod observer;
pub mod operations;
pub mod passwords;
pub mod placement;
pub mod profile;
pub mod recording;
pub mod run;
pub mod steps;

pub use context::Context;
pub use environment::{Environment, Turns};
pub use error::TrialError;
pub use exec::{ExecEnd, ExecOutput};
pub use id::TrialId;
pub use observer::Observer;
pub use placement::Placement;
pub use profile::Profile;
