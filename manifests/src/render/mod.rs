//! `(Release, Values) -> Manifests`, one file per kind of object.
//!
//! The contract is the chart's documentation. Where the chart's own revisions differ, the rendering
//! follows the earlier one: no PVC retention block, no renamed commands. It follows the later one
//! where the README does: an upgrade keeps the existing password ([`Release::password`]).
//!
//! - [`config_map`]: `valkey.conf`; [`secret`], [`service_account`], [`service`],
//!   [`disruption_budget`];
//! - [`stateful_set`]: the servers; [`server`]: their container; [`probes`]: its health; [`peers`]:
//!   the container that reconnects servers after a full restart;
//! - [`hooks`]: Jobs and test Pod; [`scripts`]: the scripts of both.

mod config_map;
mod disruption_budget;
mod hooks;
mod peers;
mod probes;
mod scripts;
mod secret;
mod server;
mod service;
mod service_account;
mod stateful_set;
mod tools;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::manifests::Manifests;
use crate::password::PasswordError;
use crate::release::{Release, StringMap};
use crate::values::{ValueError, Values, ValuesError};

/// The reason that a release cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The values have problems; all of them are listed.
    #[error("render release {release}")]
    Values {
        /// The release's name.
        release: String,
        /// Every problem.
        source: ValuesError,
    },
    /// Helm does not accept the name.
    #[error("release name {name:?} is not a lower-case DNS label of at most 53 characters")]
    ReleaseName {
        /// The name given.
        name: String,
    },
    /// Kubernetes does not accept the namespace.
    #[error("namespace {name:?} is not a lower-case DNS label of at most 63 characters")]
    Namespace {
        /// The name given.
        name: String,
    },
    /// Names, with their suffixes, that Kubernetes does not allow.
    #[error("names that Kubernetes refuses: {}; set nameOverride or fullnameOverride to another one", .names.join(", "))]
    Names {
        /// The names, with the reasons.
        names: Vec<String>,
    },
    /// A Secret is needed, but `auth.password` is empty and the release has no password.
    #[error("release {release} has no password: auth.password is empty, and none was found or generated")]
    PasswordMissing {
        /// The release's name.
        release: String,
    },
    /// The entrypoint cannot pass on the password in the values.
    #[error("password of release {release}")]
    Password {
        /// The release's name.
        release: String,
        /// The problem for the entrypoint.
        source: PasswordError,
    },
}

/// The input of every object.
pub(crate) struct RenderContext<'a> {
    pub(crate) release: &'a Release,
    pub(crate) values: &'a Values,
    pub(crate) fullname: String,
}

impl RenderContext<'_> {
    /// Returns metadata with the common labels, in the release's namespace.
    fn metadata(&self, name: impl Into<String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(self.release.namespace.clone()),
            labels: Some(self.release.common_labels(self.values)),
            ..ObjectMeta::default()
        }
    }
}

/// Renders all objects. The same inputs give the same objects.
///
/// # Errors
/// Returns all problems of the values, names that Kubernetes refuses, or a missing or unusable
/// password.
pub fn render(release: &Release, values: &Values) -> Result<Manifests, RenderError> {
    check(release, values)?;
    let context = RenderContext {
        release,
        values,
        fullname: release.fullname(values),
    };
    let config_map = config_map::config_map(&context);
    Ok(Manifests {
        pod_disruption_budget: disruption_budget::disruption_budget(&context),
        service_account: service_account::service_account(&context),
        secret: secret::secret(&context)?,
        service: service::client(&context),
        headless_service: service::headless(&context),
        stateful_set: stateful_set::stateful_set(&context, &config_map),
        config_map,
        hooks: hooks::hooks(&context),
    })
}

fn check(release: &Release, values: &Values) -> Result<(), RenderError> {
    if !is_dns_label(&release.name, 53) {
        return Err(RenderError::ReleaseName {
            name: release.name.clone(),
        });
    }
    if !is_dns_label(&release.namespace, 63) {
        return Err(RenderError::Namespace {
            name: release.namespace.clone(),
        });
    }
    let problems: Vec<ValueError> = values.problems();
    if !problems.is_empty() {
        let source = ValuesError::Invalid(problems);
        return Err(RenderError::Values {
            release: release.name.clone(),
            source,
        });
    }
    let names = release.refused_names(values);
    if !names.is_empty() {
        let names = names
            .iter()
            .map(|(kind, name, why)| format!("{kind} {name:?} {why}"))
            .collect();
        return Err(RenderError::Names { names });
    }
    Ok(())
}

fn is_dns_label(name: &str, limit: usize) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=limit).contains(&name.len())
        && name.chars().all(|c| inner(c) || c == '-')
        && name.starts_with(inner)
        && name.ends_with(inner)
}

/// Returns the map, or `None` if it is empty, like the chart's `with` blocks.
fn non_empty(map: &StringMap) -> Option<StringMap> {
    (!map.is_empty()).then(|| map.clone())
}
