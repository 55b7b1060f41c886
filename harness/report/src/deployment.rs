//! The deployment of a run: the project's commit, the manifests, the values. The cluster is
//! described by its [`Provenance`](clusters::Provenance).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use manifests::password::GENERATED_LENGTH;
use manifests::{Mode, Password, Release, Values, Variant};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use release::{Bundle, Chart};
use secret::REDACTED;
use settings::Profile;

/// The deployment of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Deployment {
    /// The commit of this project, with the suffix `-dirty` when files differ. Absent outside of a
    /// clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The deployed chart on disk. Absent when the project's own manifests were deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chart: Option<ChartSource>,
    /// SHA-256 of the project's rendering of every combination under the run's profile.
    pub manifests_digest: String,
    /// The values of every combination (`mode-variant`), without passwords.
    pub values: BTreeMap<String, Value>,
    /// Arguments that repeat a trial, besides its name, profile and seed. They select the cluster,
    /// the site, the chart and its values. Omits values that could be secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
}

/// A chart on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChartSource {
    /// The name in its `Chart.yaml`.
    pub name: String,
    /// The version in its `Chart.yaml`.
    pub version: String,
    /// The version of `helm` that deployed it.
    #[serde(default)]
    pub helm: String,
    /// Objects that the chart renders beyond the README, in any combination. They are not judged.
    #[serde(default)]
    pub objects_beyond_readme: Vec<String>,
    /// Values in its `values.yaml` beyond the README's parameters.
    #[serde(default)]
    pub values_beyond_readme: Vec<String>,
}

impl ChartSource {
    /// Returns the description in the chart's file. Falls back to the path where the name is empty.
    pub fn of_chart_file(chart: &Chart) -> Self {
        let about = chart.about().clone();
        let name = if about.name.is_empty() {
            chart.path().display().to_string()
        } else {
            about.name
        };
        Self {
            name,
            version: about.version,
            ..Self::default()
        }
    }

    /// Returns the description with the `helm` version and the chart's additions to the README.
    pub async fn of_chart(chart: &Chart) -> Self {
        let beyond = chart.beyond_readme().await;
        Self {
            helm: chart.helm().version().to_owned(),
            objects_beyond_readme: beyond.objects,
            values_beyond_readme: beyond.values,
            ..Self::of_chart_file(chart)
        }
    }
}

impl Deployment {
    /// Returns the deployment of a run under `profile` from the project's own manifests.
    pub fn of_project(profile: Profile) -> Self {
        let mut digest = Sha256::new();
        let mut by_combination = BTreeMap::new();
        for mode in Mode::ALL {
            for variant in Variant::ALL {
                let mut values = Values::combination(mode, variant);
                profile.apply(&mut values);
                digest.update(rendered(&values));
                let name = format!("{}-{}", mode.as_str(), variant.as_str());
                by_combination.insert(name, without_secrets(&values));
            }
        }
        let digest: String = digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            commit: checkout_of_this_program().as_deref().and_then(commit_of),
            chart: None,
            manifests_digest: format!("sha256:{digest}"),
            values: by_combination,
            arguments: Vec::new(),
        }
    }

    /// Returns a short name of the subject for the report.
    pub fn subject(&self) -> String {
        match &self.chart {
            Some(chart) => format!("chart {} {}", chart.name, chart.version),
            None => "the project's own manifests".to_owned(),
        }
    }
}

/// Returns the values as JSON, without the password that they may hold.
pub fn without_secrets(values: &Values) -> Value {
    let mut tree = serde_json::to_value(values).expect("values are plain JSON");
    if let Some(password) = tree.pointer_mut("/auth/password")
        && password.as_str().is_some_and(|password| !password.is_empty())
    {
        *password = Value::from(REDACTED);
    }
    tree
}

/// Returns the values of `changed` that differ from `base`, by dotted path.
pub fn changes(base: &Value, changed: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    collect_changes("", base, changed, &mut found);
    found
}

fn collect_changes(path: &str, base: &Value, changed: &Value, found: &mut BTreeMap<String, Value>) {
    match (base, changed) {
        (Value::Object(base), Value::Object(changed)) => {
            for (key, value) in changed {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect_changes(&path, base.get(key).unwrap_or(&Value::Null), value, found);
            }
        }
        _ if base == changed => {}
        _ => {
            found.insert(path.to_owned(), changed.clone());
        }
    }
}

/// Renders with a constant password, so that the manifests alone decide the digest.
fn rendered(values: &Values) -> String {
    let password = Password::from_entropy(&[0; 2 * GENERATED_LENGTH]);
    let release = Release::install("release", "namespace").with_password(password);
    let rendered = manifests::render(&release, values).expect("the chart's own combinations render");
    Bundle::from_manifests(&rendered)
        .expect("what the project renders are Kubernetes objects")
        .to_yaml()
}

/// Returns the clone that this program was built in and still runs from. A copied program has none.
fn checkout_of_this_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let is_root = |folder: &&Path| folder.join("xtask/Cargo.toml").is_file();
    program.ancestors().find(is_root).map(Path::to_path_buf)
}

fn commit_of(project: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(project)
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let clean =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changed| changed.is_empty());
    Some(if clean { commit } else { format!("{commit}-dirty") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deployment_has_all_combinations_and_a_manifest_digest() {
        let fast = Deployment::of_project(Profile::Fast);
        let chart = Deployment::of_project(Profile::Default);
        assert_eq!(fast.values.len(), Mode::ALL.len() * Variant::ALL.len());
        assert_eq!(fast.values["cluster-rpm"]["mode"], "cluster");
        assert_ne!(fast.manifests_digest, chart.manifests_digest);
        assert_eq!(fast, Deployment::of_project(Profile::Fast));
    }

    #[test]
    fn a_password_among_the_values_is_removed() {
        let mut values = Values::default();
        values.auth.password = "correct horse".to_owned();
        assert_eq!(without_secrets(&values)["auth"]["password"], REDACTED);
    }

    #[test]
    fn only_what_a_scenario_changed_is_told() {
        let base = Values::default();
        let mut changed = base.clone();
        changed.cluster.replicas = 9;
        let found = changes(&without_secrets(&base), &without_secrets(&changed));
        assert_eq!(
            found,
            BTreeMap::from([("cluster.replicas".to_owned(), Value::from(9))])
        );
    }
}
