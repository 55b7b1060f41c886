//! A Helm chart on disk as the system under test, through the `helm` program: what a user does.
//!
//! | module | what is in it |
//! |---|---|
//! | [`program`] | finding `helm`, its version, and running it |
//! | [`survey`] | what it renders in every combination: its images, and what it has beyond the README |
//! | [`values`] | values files for it: never an argument, and readable by nobody else |
//! | `verbs` | install, upgrade, rollback, test and uninstall of a [`super::Release`] |
//! | [`error`] | why the chart or `helm` did not do what was asked |

pub mod error;
pub mod program;
pub mod survey;
pub mod values;
pub(super) mod verbs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::config::Kubeconfig;
use manifests::Values;
use manifests::values::Overrides;
use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::OnceCell;

pub use error::ChartError;
pub use program::Helm;
pub use survey::Beyond;
pub use values::ValuesFile;

use super::bundle::Bundle;

/// A chart's own file, without which a directory is not a chart.
const CHART_FILE: &str = "Chart.yaml";

/// A chart on disk, and what is needed to deploy it.
#[derive(Debug, Clone)]
pub struct Chart {
    folder: PathBuf,
    helm: Helm,
    overrides: Overrides,
    own_values: Value,
    surveyed: Arc<OnceCell<Vec<Vec<Value>>>>,
}

impl Chart {
    /// Fails for a directory that is no chart. `helm` is not needed to see that.
    pub fn check_folder(folder: &Path) -> Result<(), ChartError> {
        let why = if !folder.is_dir() {
            "there is no such directory"
        } else if !folder.join(CHART_FILE).is_file() {
            "it has no Chart.yaml"
        } else {
            return Ok(());
        };
        Err(not_a_chart(folder, why))
    }

    /// The chart in `folder`, with values set for the whole run.
    pub fn open(folder: &Path, helm: Helm, overrides: Overrides) -> Result<Self, ChartError> {
        Self::check_folder(folder)?;
        let own_values = match std::fs::read_to_string(folder.join("values.yaml")) {
            Ok(text) => serde_yaml::from_str(&text).unwrap_or_default(),
            Err(_) => Value::Null,
        };
        let folder = folder
            .canonicalize()
            .map_err(|error| not_a_chart(folder, &error.to_string()))?;
        Ok(Self {
            folder,
            helm,
            overrides,
            own_values,
            surveyed: Arc::default(),
        })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The program that deploys it.
    pub fn helm(&self) -> &Helm {
        &self.helm
    }

    /// What was set for the whole run.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// The same chart, for a certain cluster.
    pub fn on_cluster(mut self, kubeconfig: &Kubeconfig) -> Result<Self, ChartError> {
        self.helm = self.helm.with_cluster(kubeconfig)?;
        Ok(self)
    }

    /// `helm template`: the objects, and the values file that they were made from.
    pub async fn render(
        &self,
        release: &str,
        namespace: &str,
        values: &Values,
    ) -> Result<Bundle, ChartError> {
        let file = Arc::new(ValuesFile::write(&self.tree(values))?);
        let mut bundle = Bundle::from_values(self.template(release, namespace, &file).await?)
            .map_err(|source| ChartError::Manifests(Box::new(source)))?;
        bundle.values = Some(file);
        Ok(bundle)
    }

    /// The objects as they are rendered, one JSON value each.
    pub async fn objects(
        &self,
        release: &str,
        namespace: &str,
        values: &Values,
    ) -> Result<Vec<Value>, ChartError> {
        self.template(release, namespace, &ValuesFile::write(&self.tree(values))?)
            .await
    }

    async fn template(
        &self,
        release: &str,
        namespace: &str,
        values: &ValuesFile,
    ) -> Result<Vec<Value>, ChartError> {
        let mut command = self.helm.command("template");
        command
            .arg(release)
            .arg(&self.folder)
            .arg("--namespace")
            .arg(namespace);
        command.arg("--values").arg(values.path());
        let text = self.helm.run(command).await?;
        let documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
        let documents: Vec<Value> = documents.collect::<Result<_, _>>().map_err(ChartError::Output)?;
        Ok(documents
            .into_iter()
            .filter(|document| !document.is_null())
            .collect())
    }

    /// The values as the chart takes them: with what only it knows, and without what only we know.
    fn tree(&self, values: &Values) -> Value {
        let mut tree = serde_json::to_value(values).expect("values are plain JSON");
        let ours = "drainBeforeScaleDown";
        if self.own_values["cluster"].get(ours).is_none()
            && let Some(cluster) = tree["cluster"].as_object_mut()
        {
            cluster.remove(ours);
        }
        self.overrides.extend(&mut tree);
        tree
    }
}

fn not_a_chart(folder: &Path, why: &str) -> ChartError {
    ChartError::NotAChart {
        folder: folder.to_owned(),
        why: why.to_owned(),
    }
}
