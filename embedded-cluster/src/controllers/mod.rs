//! The control loops: ordinary API clients that share one watch per kind.
//!
//! | module | what is in it |
//! |---|---|
//! | `config`, `manager` | [`ControllersConfig`] and [`run`]: starts everything together |
//! | `hub` | the shared watches: a store per kind and one stream of changes |
//! | `drive` | a work queue on `kube::runtime`'s applier, fed by the hub |
//! | `bootstrap` | objects of a fresh cluster: namespaces, the default StorageClass |
//! | `scheduler` | binding of pods to the node |
//! | `stateful_set`, `job` | the two workloads that the chart consists of |
//! | `deployment`, `replica_set` | interchangeable pods |
//! | `endpoints` | EndpointSlices and Endpoints of Services |
//! | `claims` | PersistentVolumeClaims, their volumes and their protection |
//! | `disruption` | the status of PodDisruptionBudgets |
//! | `taints` | eviction of pods that do not tolerate a `NoExecute` taint |
//! | `namespaces` | default content of a new namespace, and removal of all content of a deleted one |
//! | `garbage` | deletion of dependents of owners that are gone |
//! | `pods`, `owners`, `events`, `error` | common code |
//!
//! Each controller is a thin reconciler around pure decisions. Reconcilers whose decisions are not
//! idempotent (StatefulSet, Job, scheduler) read through the API instead of the shared stores.
//! Reads are in-process and cheap. They replace the expectations that real controllers keep against
//! stale caches.

mod bootstrap;
mod claims;
mod config;
mod deployment;
mod disruption;
mod drive;
mod endpoints;
mod error;
mod events;
mod garbage;
mod hub;
mod job;
mod manager;
mod namespaces;
mod owners;
mod pods;
mod replica_set;
mod scheduler;
mod stateful_set;
mod taints;

pub use config::ControllersConfig;
pub use error::ControllerError;
pub(crate) use events::EventRecorder;
pub use manager::run;
