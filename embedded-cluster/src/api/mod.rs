//! An in-memory Kubernetes API server: what clients, controllers and `kubectl` need of one.
//!
//! | part | what is in it |
//! |---|---|
//! | `serve`, `server`, `auth` | the ways in, and from a request to a verb |
//! | `request`, `content`, `selector`, `intake`, `typed` | understanding a request |
//! | `verbs`, `subresources`, `patch` | what is done |
//! | `kinds`, `support` | which kinds are served, and what of a pod is supported |
//! | `strategy`, `defaults`, `validate`, `admission`, `pod_security` | what a write goes through |
//! | `store` | objects, revisions and the log of changes |
//! | `discovery`, `table`, `reviews`, `events` | what else `kubectl` asks for |
//!
//! It does not run anything: controllers and the node are its clients.

mod addresses;
mod admission;
mod auth;
mod bootstrap;
mod content;
mod defaults;
mod discovery;
mod events;
mod intake;
mod kinds;
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
mod status;
mod store;
mod strategy;
mod subresources;
pub mod support;
mod table;
mod typed;
mod validate;
mod verbs;

pub use auth::{Denial, DenialError, Identity, Token};
pub use server::{ApiConfig, ApiServer};
