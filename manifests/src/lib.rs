//! Percona Valkey chart values to Kubernetes objects, as a pure function: no I/O, no clock, no randomness.
//!
//! - [`values`]: the chart's `values.yaml` as types, read from files and `--set`, with every error at once.
//! - [`release`]: what Helm knows about a release (name, namespace, revision) and the names made from it.
//! - [`password`]: a Valkey password that never prints itself and that the image's entrypoint can carry.
//! - [`render`]: `(Release, Values) -> Manifests`, one file per kind of object.
//! - [`hook`]: Helm hook annotations as values.
//! - [`examples`]: the README's own values files.
//! - [`conformance`]: which fields each parameter changes, as a table, and what judges a rendering by it.
//! - [`manifests`]: what was rendered: typed objects, in Helm's install order, and as YAML.
//!
//! It does not talk to a cluster and does not do what Helm does with the objects: that is the harness's.

pub mod conformance;
pub mod examples;
pub mod hook;
pub mod manifests;
pub mod password;
pub mod release;
pub mod render;
pub mod values;

pub use hook::{Hook, HookDeletePolicy, HookEvent, HookObject};
pub use manifests::Manifests;
pub use password::{Password, PasswordError};
pub use release::Release;
pub use render::{RenderError, render};
pub use values::{Mode, Values, ValuesError, ValuesInput, Variant};
