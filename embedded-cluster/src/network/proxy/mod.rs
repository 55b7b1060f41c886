//! ClusterIP Services as user-space TCP proxies.
//!
//! | module | what is in it |
//! |---|---|
//! | `plan` | the addresses and the pods behind each; pure |
//! | `forward` | the listeners and the copying of bytes |
//! | `choice` | the endpoint for a connection |
//!
//! Connections without a ready endpoint are refused at once, as by kube-proxy's REJECT rule: there
//! is no listener. A connection whose endpoint refuses is accepted first and then reset.
//! kube-proxy's address translation would show it as a refusal.

mod choice;
mod forward;
mod plan;

pub(crate) use forward::Proxies;
pub(crate) use plan::{Backends, Plan, plan};
