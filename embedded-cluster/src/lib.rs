//! A single-process Kubernetes for tests. Real processes run in real namespaces, behind the
//! Kubernetes API.
//!
//! | module | what is in it |
//! |---|---|
//! | [`api`] | the object store, and the Kubernetes API over HTTPS |
//! | [`controllers`] | StatefulSet, Job, Service endpoints, claims, disruption budgets, garbage collection |
//! | [`node`] | the kubelet: sandboxes, containers, probes, volumes, logs, exec |
//! | [`network`] | the bridge, pod addresses, cluster DNS, ClusterIP proxies |
//! | [`images`] | the OCI image store, registry pulls, archives and stand-in images |
//! | [`delays`] | the delays with which the parts of a cluster notice changes |
//! | [`health`] | the reason for an unexpected death of a cluster |
//! | `capabilities` | Linux capabilities that containers have and may request |
//! | `confined` | a directory that no path can leave |
//! | `quantity`, `seconds` | amounts and durations in the API's formats |
//! | [`runtime`] | requests of the API server to the node (logs, exec, port-forward) |
//! | [`supervisor`] | the process that is PID 1 of the cluster, and the handle that starts and stops it |

pub mod api;
mod capabilities;
mod confined;
pub mod controllers;
pub mod delays;
pub mod health;
pub mod images;
pub mod network;
pub mod node;
mod quantity;
pub mod runtime;
mod seconds;
pub mod supervisor;
