//! A single-process Kubernetes for tests: real processes in real namespaces, behind the Kubernetes API.
//!
//! | module | what is in it |
//! |---|---|
//! | [`api`] | the object store, and the Kubernetes API over HTTPS |
//! | [`controllers`] | StatefulSet, Job, Service endpoints, claims, disruption budgets, garbage collection |
//! | [`node`] | the kubelet: sandboxes, containers, probes, volumes, logs, exec |
//! | [`network`] | the bridge, pod addresses, cluster DNS, ClusterIP proxies |
//! | [`images`] | the OCI image store, registry pulls, archives and stand-in images |
//! | [`runtime`] | what the API server asks of the node (logs, exec, port-forward) |
//! | [`supervisor`] | the process that is PID 1 of it all, and the handle that starts and stops it |

pub mod api;
pub mod controllers;
pub mod images;
pub mod network;
pub mod node;
pub mod runtime;
pub mod supervisor;
