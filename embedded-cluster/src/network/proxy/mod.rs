//! ClusterIP Services as user-space TCP proxies.
//!
//! | module | what is in it |
//! |---|---|
//! | `plan` | which address forwards to which pods, and what of a Service is not supported; pure |
//! | `forward` | the listeners and the copying of bytes |
//!
//! Connections without a ready endpoint are refused at once, as kube-proxy's REJECT rule does: the listener is
//! simply not there. A connection whose endpoint refuses is accepted first and then reset, which kube-proxy's
//! address translation would have shown as a refusal.

mod forward;
mod plan;

pub(crate) use forward::Proxies;
pub(crate) use plan::{Plan, plan, unsupported};
