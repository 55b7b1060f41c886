//! The table of cases, `parameters.yaml`: a parameter, a value away from its default, and every
//! field that changes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::objects::Objects;
use crate::values::{Values, ValuesError, ValuesInput};

/// Our own Job, which a chart need not have.
pub(super) const DRAIN: &str = "Job cluster-drain";
/// In the table: every object.
const ALL: &str = "all";
/// In the table: every Job and the test Pod.
const TOOLS: &str = "tools";
/// A password for every case. A password generated at each rendering would be a difference.
const PASSWORD: &str = "auth.password=first-password";

/// Required changes by object and path; `null` removes a field.
pub type Changes = BTreeMap<String, BTreeMap<String, Value>>;
/// Fields by object.
pub type Paths = BTreeMap<String, Vec<String>>;

/// One row of the table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    /// The parameter, as the README writes it.
    pub parameter: String,
    /// Settings of both sides, in the grammar of `--set`.
    pub base: String,
    /// Settings of the second side only.
    pub set: String,
    /// Changes that every renderer makes.
    pub changes: Changes,
    /// Alternative sets of changes, for charts that read the README in another way.
    pub or: Vec<Changes>,
    /// Further changes in our own manifests, where they go beyond the chart.
    pub ours: Changes,
    /// Paths that a chart may change as well.
    pub may: Paths,
    /// Objects that the change adds.
    pub added: Vec<String>,
    /// Objects that the change removes.
    pub removed: Vec<String>,
    /// A substitution in names, for the fields in `renamed` and `ours_renamed`.
    pub rename: Option<Rename>,
    /// The fields with the substitution, for every renderer.
    pub renamed: Paths,
    /// The fields with the substitution, in our own manifests only.
    pub ours_renamed: Paths,
}

/// A substitution in names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The part to replace.
    pub from: String,
    /// The replacement.
    pub to: String,
}

/// Returns every case, in the README's order of parameters.
///
/// # Panics
/// If the table, which is part of this crate, cannot be read; a test rules that out.
#[must_use]
pub fn cases() -> Vec<Case> {
    serde_yaml::from_str(include_str!("parameters.yaml")).expect("the table is part of the crate, and tested")
}

impl Case {
    /// Returns the settings of the first side, in the grammar of `--set`.
    #[must_use]
    pub fn settings_before(&self) -> Vec<&str> {
        let base = [PASSWORD, &self.base].into_iter();
        base.filter(|set| !set.is_empty()).collect()
    }

    /// Returns the settings of the second side.
    #[must_use]
    pub fn settings_after(&self) -> Vec<&str> {
        let mut settings = self.settings_before();
        settings.push(&self.set);
        settings
    }

    /// Returns true if the README promises any change of a chart's rendering.
    #[must_use]
    pub fn changes_something(&self) -> bool {
        let lists = [&self.added, &self.removed];
        !self.changes.is_empty() || !self.renamed.is_empty() || lists.iter().any(|list| !list.is_empty())
    }

    /// Returns the values of both sides.
    ///
    /// # Errors
    /// Returns the values' problems; never for a case of the table.
    pub fn values(&self) -> Result<(Values, Values), ValuesError> {
        let base = self
            .settings_before()
            .into_iter()
            .fold(ValuesInput::new(), ValuesInput::set);
        Ok((base.resolve()?, base.set(&*self.set).resolve()?))
    }
}

/// Expands a row's short path to full paths, for each object that its key names.
///
/// Short prefixes:
/// - `pod.`: the pod's specification;
/// - `template.`: the pod's metadata;
/// - `server.`, `peers.` and `tool.`: a container;
/// - `claim.`: the claim template.
pub(super) fn expand(key: &str, path: &str, present: &Objects) -> Vec<(String, String)> {
    let roles: Vec<String> = key
        .split(',')
        .flat_map(|key| roles(key.trim(), present))
        .collect();
    let full = |role: String| {
        let path = full_path(&role, path);
        (role, path)
    };
    roles.into_iter().map(full).collect()
}

fn roles(key: &str, present: &Objects) -> Vec<String> {
    let is_tool = |role: &&str| role.starts_with("Job ") || role.starts_with("Pod ");
    match key {
        ALL => present.roles().map(str::to_owned).collect(),
        TOOLS => present.roles().filter(is_tool).map(str::to_owned).collect(),
        one => vec![one.to_owned()],
    }
}

/// Returns the name of a tool's container, by the role of its object.
pub(super) fn tool_name(role: &str) -> &str {
    match role {
        "Pod test-connection" => "test",
        role => role.rsplit(' ').next().unwrap_or(role),
    }
}

fn full_path(role: &str, path: &str) -> String {
    let (pod, template) = if role.starts_with("Pod ") {
        ("spec", "metadata")
    } else {
        ("spec.template.spec", "spec.template.metadata")
    };
    let tool = tool_name(role);
    let Some((first, rest)) = path.split_once('.') else {
        return path.to_owned();
    };
    match first {
        "pod" => format!("{pod}.{rest}"),
        "template" => format!("{template}.{rest}"),
        "server" => format!("{pod}.containers[valkey].{rest}"),
        "peers" => format!("{pod}.containers[peers].{rest}"),
        "tool" => format!("{pod}.containers[{tool}].{rest}"),
        "claim" => format!("spec.volumeClaimTemplates[data].{rest}"),
        _ => path.to_owned(),
    }
}
