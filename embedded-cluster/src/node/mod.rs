//! The kubelet of the embedded cluster: runs the pods bound to its node, on real processes.
//!
//! | module | what is in it |
//! |---|---|
//! | `kubelet` | [`Node`]: watches pods, runs a worker for each, serves logs, exec and port-forward |
//! | `pod` | one pod: its worker, containers, probes, hooks, status |
//! | `volumes` | a pod's volumes as directories |
//! | `env`, `downward`, `security`, `etc`, `spec` | inputs for the start of a container (pure) |
//! | `support` | unsupported features of pods |
//! | `sandbox` | the namespaces that a pod's containers share |
//! | `helper`, `launcher` | the process that starts containers and commands, and the node's side of it |
//! | `exec`, `terminal` | commands in containers, for probes and for clients |
//! | `logs` | container logs |
//! | `removal` | removal of the files that containers leave, at any depth |
//! | `events` | events about pods |
//! | `reaper` | [`Reaper`]: the only place that waits for child processes |
//! | `registration`, `capacity`, `context` | the Node object, resource quantities, shared state |

mod capacity;
mod context;
mod downward;
mod env;
mod etc;
mod events;
mod exec;
mod helper;
mod kubelet;
mod launcher;
mod logs;
mod pod;
mod reaper;
mod registration;
mod removal;
mod sandbox;
mod security;
mod spec;
mod terminal;
mod volumes;

pub(crate) use error_text::chain;
pub(crate) use helper::cgroup;
pub use helper::{HELPER_ARGUMENT, helper_main};
pub use kubelet::{Node, NodeConfig, NodeError};
pub use reaper::{Child, Exit, Reaper};
pub use registration::MAX_PODS;
pub use volumes::PERSISTENT_VOLUMES;
