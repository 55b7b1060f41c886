//! The table of cases, `parameters.yaml`: a parameter, a value away from its default, and every field that changes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::objects::Objects;
use crate::values::{Values, ValuesError, ValuesInput};

/// Our own Job, which no chart has to have.
pub(super) const DRAIN: &str = "Job cluster-drain";
/// In the table: every object.
const ALL: &str = "all";
/// In the table: every Job and the test Pod.
const TOOLS: &str = "tools";
/// A password for every case: one that is generated anew with each rendering would be a difference of its own.
const PASSWORD: &str = "auth.password=first-password";

/// What must change, by object and path, to which value; `null` is a field that goes.
pub type Changes = BTreeMap<String, BTreeMap<String, Value>>;
/// Fields by object.
pub type Paths = BTreeMap<String, Vec<String>>;

/// One row of the table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    /// The parameter, as the README writes it.
    pub parameter: String,
    /// What is set on both sides, in the grammar of `--set`.
    pub base: String,
    /// What is set on the second side only.
    pub set: String,
    /// What changes, whoever renders.
    pub changes: Changes,
    /// What changes besides in our own manifests, where they go beyond the chart.
    pub ours: Changes,
    /// What a chart may change too, in its own way.
    pub may: Paths,
    /// Objects that appear.
    pub added: Vec<String>,
    /// Objects that go.
    pub removed: Vec<String>,
    /// A part of names that becomes another, in the fields of `renamed` and `ours_renamed`.
    pub rename: Option<Rename>,
    /// Where it does, whoever renders.
    pub renamed: Paths,
    /// Where it does in our own manifests.
    pub ours_renamed: Paths,
}

/// A part of names that becomes another.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The part.
    pub from: String,
    /// What stands there instead.
    pub to: String,
}

/// Every case, in the README's order of parameters.
///
/// # Panics
/// If the table, which is part of this crate, is not what this module reads; a test holds that.
#[must_use]
pub fn cases() -> Vec<Case> {
    serde_yaml::from_str(include_str!("parameters.yaml")).expect("the table is part of the crate, and tested")
}

impl Case {
    /// The values of both sides.
    ///
    /// # Errors
    /// Values that the chart does not take; never for a case of the table.
    pub fn values(&self) -> Result<(Values, Values), ValuesError> {
        let base = [PASSWORD, &self.base].into_iter().filter(|set| !set.is_empty());
        let base = base.fold(ValuesInput::new(), ValuesInput::set);
        Ok((base.resolve()?, base.set(&*self.set).resolve()?))
    }
}

/// The full paths that a row's short ones mean, for each object that its key means.
///
/// `pod.` is the pod's specification and `template.` its metadata, wherever the object has them; `server.` and `tool.`
/// are the container, `claim.` is the claim template.
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

fn full_path(role: &str, path: &str) -> String {
    let (pod, template) = if role.starts_with("Pod ") {
        ("spec", "metadata")
    } else {
        ("spec.template.spec", "spec.template.metadata")
    };
    let tool = match role {
        "Pod test-connection" => "test",
        role => role.rsplit(' ').next().unwrap_or(role),
    };
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
