//! Renders values of the Percona Valkey chart to Kubernetes objects. It is a pure function: no I/O,
//! no clock, no randomness.
//!
//! - [`values`]: the chart's `values.yaml` as types, read from files and `--set`, with every error
//!   at once.
//! - [`release`]: Helm's facts about a release (name, namespace, revision) and the derived names.
//! - [`password`]: a Valkey password that `Debug` hides and that the image's entrypoint keeps
//!   intact.
//! - [`mod@render`]: `(Release, Values) -> Manifests`, one file for each kind of object.
//! - [`hook`]: Helm hook annotations as values.
//! - [`examples`]: the README's own values files.
//! - [`conformance`]: a table of the fields that each parameter changes, and the check of a
//!   rendering against it.
//! - [`manifests`]: the rendered objects: typed, in Helm's install order, and as YAML.
//!
//! It does not talk to a Kubernetes cluster. The harness applies the objects, as Helm would.

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
