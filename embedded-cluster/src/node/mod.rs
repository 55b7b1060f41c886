//! The kubelet of the embedded cluster: runs the pods bound to its node, on real processes.
//!
//! | module | what is in it |
//! |---|---|
//! | `kubelet` | [`Node`]: watches pods, runs a worker for each, answers for logs, exec and port-forward |
//! | `pod` | one pod: its worker, containers, probes, hooks, status |
//! | `volumes` | a pod's volumes as directories |
//! | `env`, `downward`, `security`, `etc`, `spec` | what a container is started with (pure) |
//! | `support` | what pods may not ask for here |
//! | `sandbox` | the namespaces a pod's containers share |
//! | `helper`, `launcher` | the process that starts containers and commands, and the node's side of it |
//! | `exec`, `terminal` | commands in containers, for probes and for clients |
//! | `logs` | container logs |
//! | `events` | events about pods |
//! | `reaper` | [`Reaper`]: the only place where children are waited for |
//! | `registration`, `quantity`, `context` | the Node object, quantities, what everything shares |

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
mod quantity;
mod reaper;
mod registration;
mod sandbox;
mod security;
mod spec;
mod support;
mod terminal;
mod volumes;

pub use helper::{HELPER_ARGUMENT, helper_main};
pub use kubelet::{Node, NodeConfig, NodeError};
pub use reaper::{Child, Exit, Reaper};
pub use registration::MAX_PODS;
pub use volumes::PERSISTENT_VOLUMES;

/// An error with its causes, for event texts.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
