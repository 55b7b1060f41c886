//! Values for `helm`, in its order of precedence: ours instead of the chart's defaults, the user's,
//! the trial's. The user's part is passed to `helm` as typed. Ours are files that only this user
//! can read, as they may hold the password.

use std::path::PathBuf;
use std::sync::Arc;

use manifests::values::chart_values::{Leaf, leaves, overlay};
use serde_json::{Map, Value};
use tokio::process::Command;

use super::error::ChartError;
use super::private_file::{PrivateFile, ValuesFile};

/// The user's values for the whole run, as typed. Helm reads all of one flag before the next, in
/// the order of these fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserValues {
    /// `-f FILE`.
    pub files: Vec<PathBuf>,
    /// `--set-json`.
    pub set_json: Vec<String>,
    /// `--set`.
    pub set: Vec<String>,
    /// `--set-string`.
    pub set_string: Vec<String>,
    /// `--set-file`.
    pub set_file: Vec<String>,
    /// `--set-literal`.
    pub set_literal: Vec<String>,
}

impl UserValues {
    /// Returns the arguments, which override files, as flag and text.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [
            ("--set-json", &self.set_json),
            ("--set", &self.set),
            ("--set-string", &self.set_string),
            ("--set-file", &self.set_file),
            ("--set-literal", &self.set_literal),
        ];
        all.into_iter()
            .flat_map(|(flag, texts)| texts.iter().map(move |text| (flag, text)))
    }

    pub(super) fn add_files(&self, command: &mut Command) {
        for file in &self.files {
            command.arg("--values").arg(file);
        }
    }

    pub(super) fn add_settings(&self, command: &mut Command) {
        for (flag, text) in self.settings() {
            command.arg(flag).arg(text);
        }
    }
}

/// The values of one rendering.
#[derive(Debug)]
pub struct HelmValues {
    before: Option<ValuesFile>,
    user: Arc<UserValues>,
    after: Option<ValuesFile>,
    outranking: Vec<Setting>,
}

/// A value that must override the user's arguments.
#[derive(Debug)]
struct Setting {
    flag: &'static str,
    argument: String,
    /// The file that `--set-file` reads.
    _file: Option<PrivateFile>,
}

impl HelmValues {
    /// Layers the values: `before` overrides the chart's defaults, the user's values override
    /// `before`, and `after` overrides all. `set_by_user` has the user's arguments, which no file
    /// overrides.
    pub fn write(
        before: &Value,
        user: &Arc<UserValues>,
        after: &Value,
        set_by_user: &Value,
    ) -> Result<Self, ChartError> {
        let (clashing, others): (Vec<Leaf>, Vec<Leaf>) = leaves(after)
            .into_iter()
            .partition(|leaf| clashes(&leaf.keys, set_by_user));
        let mut rest = Value::Object(Map::new());
        for leaf in &others {
            overlay(&mut rest, leaf.tree());
        }
        let file = |tree: &Value| {
            let empty = tree.as_object().is_none_or(Map::is_empty);
            (!empty).then(|| ValuesFile::write(tree)).transpose()
        };
        Ok(Self {
            before: file(before)?,
            user: user.clone(),
            after: file(&rest)?,
            outranking: clashing.iter().map(Setting::new).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn add_to(&self, command: &mut Command) {
        let add = |command: &mut Command, file: &Option<ValuesFile>| {
            if let Some(file) = file {
                command.arg("--values").arg(file.path());
            }
        };
        add(command, &self.before);
        self.user.add_files(command);
        add(command, &self.after);
        self.user.add_settings(command);
        for setting in &self.outranking {
            command.arg(setting.flag).arg(&setting.argument);
        }
    }
}

impl Setting {
    /// Passes texts through a file, because they may be secrets. A file needs no quoting.
    fn new(leaf: &Leaf) -> Result<Self, ChartError> {
        let key = leaf
            .keys
            .iter()
            .map(|key| escaped(key))
            .collect::<Vec<_>>()
            .join(".");
        Ok(match &leaf.value {
            Value::String(text) => {
                let file = PrivateFile::write(text)?;
                Self {
                    flag: "--set-file",
                    argument: format!("{key}={}", escaped_value(&file.path().display().to_string())),
                    _file: Some(file),
                }
            }
            Value::Object(_) | Value::Array(_) => Self {
                flag: "--set-json",
                argument: format!("{key}={}", leaf.value),
                _file: None,
            },
            scalar => Self {
                flag: "--set",
                argument: format!("{key}={scalar}"),
                _file: None,
            },
        })
    }
}

/// Returns true if the user also set the value at `keys`, as a whole or in part.
fn clashes(keys: &[String], set_by_user: &Value) -> bool {
    let mut node = set_by_user;
    for key in keys {
        match node {
            Value::Object(table) => match table.get(key) {
                Some(below) => node = below,
                None => return false,
            },
            _ => return true,
        }
    }
    true
}

/// Escapes a key for the grammar of `--set`, where these characters are separators.
fn escaped(key: &str) -> String {
    key.chars()
        .flat_map(|c| {
            let special = matches!(c, '\\' | '.' | ',' | '=' | '[' | ']');
            special.then_some('\\').into_iter().chain([c])
        })
        .collect()
}

fn escaped_value(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the arguments, with each of our files replaced by its content.
    fn arguments(values: &HelmValues) -> Vec<String> {
        let mut command = Command::new("helm");
        values.add_to(&mut command);
        let read = |text: &str| {
            let (key, path) = text.split_once('=').unwrap_or(("", text));
            let content = path
                .starts_with("/proc/")
                .then(|| std::fs::read_to_string(path).unwrap());
            content.map_or_else(|| text.to_owned(), |content| format!("{key}<{content}>"))
        };
        let arguments = command.as_std().get_args();
        arguments.map(|text| read(&text.to_string_lossy())).collect()
    }

    #[test]
    fn users_values_go_between_ours_as_they_were_typed() {
        let user = Arc::new(UserValues {
            files: vec!["own.yaml".into()],
            set: vec!["a=1,b={x}".to_owned()],
            set_string: vec!["c=9".to_owned()],
            ..UserValues::default()
        });
        let (before, after) = (json!({"mode": "cluster"}), json!({"cluster": {"replicas": 8}}));
        let values = HelmValues::write(&before, &user, &after, &json!({"a": 1})).unwrap();
        let expected = [
            "--values",
            r#"<{"mode":"cluster"}>"#,
            "--values",
            "own.yaml",
            "--values",
            r#"<{"cluster":{"replicas":8}}>"#,
            "--set",
            "a=1,b={x}",
            "--set-string",
            "c=9",
        ];
        assert_eq!(arguments(&values), expected);
    }

    #[test]
    fn trial_values_outrank_arguments_and_hide_secrets() {
        let user = Arc::new(UserValues::default());
        let after = json!({"cluster": {"replicas": 8, "nodeTimeout": 1}, "auth": {"password": "s"}, "podLabels": {"a.b": true}});
        let set = json!({"cluster": {"replicas": 6}, "auth": {"password": "t"}, "podLabels": {"a.b": 1}});
        let values = HelmValues::write(&json!({}), &user, &after, &set).unwrap();
        let expected = [
            "--values",
            r#"<{"cluster":{"nodeTimeout":1}}>"#,
            "--set",
            "cluster.replicas=8",
            "--set-file",
            "auth.password<s>",
            "--set",
            r"podLabels.a\.b=true",
        ];
        assert_eq!(arguments(&values), expected);
    }
}
