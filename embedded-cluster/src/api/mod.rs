//! An in-memory Kubernetes API server for clients, controllers and `kubectl`.
//!
//! | part | content |
//! |---|---|
//! | `serve`, `newcomers`, `server` | connections, and the way from a request to a verb |
//! | `auth`, `authorize`, `service_account_token` | callers and their permissions |
//! | `request`, `content`, `selector`, `intake`, `typed` | parsing of a request |
//! | `verbs`, `subresources`, `patch` | execution of a request |
//! | `kinds`, `behaviour` | the served kinds and their differences |
//! | `unsupported` | the parts of objects that this cluster refuses or does not enforce |
//! | `strategy`, `defaults`, `validate`, `admission`, `pod_security` | steps of a write |
//! | `store` | objects, revisions and the log of changes |
//! | `discovery`, `table`, `reviews`, `events` | other requests of `kubectl` |
//!
//! The server runs nothing: controllers and the node are its clients.

mod addresses;
mod admission;
mod auth;
mod authorize;
mod behaviour;
mod bootstrap;
mod content;
mod defaults;
mod discovery;
mod events;
mod intake;
mod kinds;
mod newcomers;
mod object;
mod openapi;
mod patch;
mod pod_security;
mod protobuf;
mod request;
mod reviews;
mod selector;
mod serve;
mod server;
mod service_account_token;
mod status;
mod store;
mod strategy;
mod subresources;
mod table;
mod typed;
pub(crate) mod unsupported;
mod validate;
mod verbs;

pub use auth::{Denial, DenialError, Identity, Token};
#[cfg(test)]
pub(crate) use kinds::namespaced_plurals;
pub(crate) use server::panic_text;
pub use server::{ApiConfig, ApiServer};
