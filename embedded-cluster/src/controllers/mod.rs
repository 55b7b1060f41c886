//! The control loops: ordinary API clients that share one watch per kind.
//!
//! | module | what is in it |
//! |---|---|
//! | `config`, `manager` | [`ControllersConfig`] and [`run`]: everything started together |
//! | `hub` | the shared watches: a store per kind and one stream of changes |
//! | `drive` | a work queue on `kube::runtime`'s applier, fed by the hub |
//! | `bootstrap` | what a fresh cluster has: namespaces, the default StorageClass |
//! | `scheduler` | pods to the node |
//! | `stateful_set`, `job` | the two workloads the chart is made of |
//! | `endpoints` | EndpointSlices and Endpoints of Services |
//! | `claims` | PersistentVolumeClaims, their volumes and their protection |
//! | `disruption` | the status of PodDisruptionBudgets |
//! | `namespaces` | emptying a namespace that goes, and furnishing one that comes |
//! | `garbage` | dependents of owners that are gone |
//! | `pods`, `owners`, `events`, `error` | what they have in common |
//!
//! Each controller is a thin reconciler around pure decisions. Reconcilers whose decisions are not idempotent
//! (StatefulSet, Job, scheduler) read through the API instead of the shared stores: reads are in-process and
//! cheap, and it does away with the expectations that real controllers keep against stale caches.

mod bootstrap;
mod claims;
mod config;
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
mod scheduler;
mod stateful_set;

pub use config::ControllersConfig;
pub use error::ControllerError;
pub(crate) use events::EventRecorder;
pub use manager::run;
