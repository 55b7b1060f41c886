//! One trial: a scenario in one mode and variant, in its own namespace, with evidence and
//! clean-up.
//!
//! | module | what is in it |
//! |---|---|
//! | [`id`] | the scenario, mode and variant of a trial; its name and namespace |
//! | [`namespace`] | a trial's own namespace: created, labelled and deleted |
//! | [`environment`] | the environment that all trials of a run share |
//! | [`context`] | the interface of a scenario: install, observe, verify, exec |
//! | [`observer`] | observation of a release, without changes to it |
//! | [`client`] | the view of a client in another namespace |
//! | [`health`] | waiting until every promise holds |
//! | [`data`] | keys in every slot, written and accounted for |
//! | [`availability`] | writers that run during an operation |
//! | [`operations`] | scaling and restarting, with proof that it took place |
//! | [`pod_deletions`] | the peers' view of a pod at its deletion |
//! | [`faults`] | faults of single servers and Jobs |
//! | [`outage`] | servers that are kept away for a while |
//! | [`passwords`] | Secrets and their passwords |
//! | [`helm_test`] | `helm test` without servers, where it must fail |
//! | `secret_watch` | the passwords in a trial's namespace |
//! | [`history`] | past observations, and states that must not return |
//! | [`halt`] | the end of a run before the end of its trials |
//! | `terminal_servers` | states of the servers that waiting does not end |
//! | [`generated_password`] | a generated password, kept over an upgrade |
//! | [`liveness`] | a liveness probe while another shard is lost |
//! | [`rendering`] | checks of rendered objects before their deployment |
//! | [`objects`] | Kubernetes' own view of the release |
//! | [`container_files`] | files inside a server's container |
//! | [`exec`] | commands inside containers |
//! | [`recorder`] | the contents of a trial's report |
//! | [`credentials`] | the release's passwords, and their redaction |
//! | [`deployment`] | the release: installed, upgraded, rolled back |
//! | [`steps`] | the trial's steps, with start and duration |
//! | [`error`] | errors of a scenario's acts |

pub mod availability;
pub mod client;
pub mod container_files;
pub mod context;
pub mod credentials;
pub mod data;
pub mod deployment;
pub mod environment;
pub mod error;
pub mod exec;
pub mod faults;
pub mod generated_password;
pub mod halt;
pub mod health;
pub mod helm_test;
pub mod history;
pub mod id;
pub mod liveness;
pub mod namespace;
pub mod objects;
pub mod observer;
pub mod operations;
pub mod outage;
pub mod passwords;
pub mod pod_deletions;
pub mod recorder;
pub mod rendering;
pub(crate) mod secret_watch;
pub mod steps;
pub(crate) mod terminal_servers;

pub use client::ClientPod;
pub use context::Context;
pub use environment::{Environment, Turns};
pub use error::{TrialError, format_error};
pub use exec::{ExecEnd, ExecOutput};
pub use halt::{Halt, HaltReason};
pub use id::TrialId;
pub use observer::Observer;
