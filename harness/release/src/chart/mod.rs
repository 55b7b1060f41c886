//! A Helm chart on disk as the system under test, through the `helm` program: what a user does.
//!
//! | module | what is in it |
//! |---|---|
//! | [`program`] | finding `helm`, its version, and running it |
//! | [`survey`] | the rendering in each combination: images, and additions to the README |
//! | [`values`] | the values, in Helm's order: ours, the user's, the trial's |
//! | `private_file` | files that only `helm` reads |
//! | `coalesced` | Helm's own merge of all values |
//! | `refused` | our parameters that the chart's schema refuses |
//! | `versions` | an older and a newer version, for an upgrade between them |
//! | `verbs` | install, upgrade, rollback, test and uninstall of a [`super::Release`] |
//! | [`error`] | failures of the chart or of `helm` |

mod coalesced;
pub mod error;
mod private_file;
pub mod program;
mod refused;
pub mod survey;
pub mod values;
pub(super) mod verbs;
mod versions;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kube::config::Kubeconfig;
use manifests::values::chart_values::{layer, layer_of_trees, leaves, overlay, undocumented};
use manifests::values::{ChartValues, ValueError};
use manifests::{Mode, Values, Variant};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub use error::ChartError;
pub use private_file::ValuesFile;
pub use program::Helm;
pub use survey::Beyond;
pub use values::{HelmValues, UserValues};

use super::bundle::Bundle;
use coalesced::Which;

/// The chart's own file. A directory without it is not a chart.
const CHART_FILE: &str = "Chart.yaml";

/// Our own parameter, which a chart may lack.
const OURS: &str = "/cluster/drainBeforeScaleDown";

/// A chart on disk, with everything that its deployment needs.
#[derive(Debug, Clone)]
pub struct Chart {
    path: PathBuf,
    helm: Helm,
    about: About,
    user: Arc<UserValues>,
    trees: Arc<Trees>,
    own: Arc<ChartValues>,
    /// Our parameters that the schema has refused. Clones share the set.
    refused: Arc<Mutex<BTreeSet<String>>>,
    surveyed: Arc<OnceCell<Vec<Vec<Value>>>>,
    previous: Option<Arc<Chart>>,
    raised: Arc<OnceCell<versions::Raised>>,
}

/// The description of a chart in its `Chart.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct About {
    /// The chart's name.
    pub name: String,
    /// The chart's version.
    pub version: String,
    /// The version of the deployed application.
    pub app_version: String,
}

#[derive(Debug)]
struct Trees {
    /// `values.yaml`.
    own: Value,
    /// Values that the user set, without the chart's defaults.
    given: Value,
    /// The part of `given` that was set by arguments, which no file overrides.
    set: Value,
}

impl Chart {
    /// Fails for a path that is not a chart. Does not need `helm`.
    pub fn check_path(path: &Path) -> Result<(), ChartError> {
        let is_package = path.extension().is_some_and(|ending| ending == "tgz") && path.is_file();
        let why = if is_package {
            return Ok(());
        } else if !path.is_dir() {
            "there is no such directory, and no package (.tgz) of that name"
        } else if !path.join(CHART_FILE).is_file() {
            "it has no Chart.yaml"
        } else {
            return Ok(());
        };
        Err(not_a_chart(path, why))
    }

    /// Opens the chart in a directory or a package, with values set for the whole run.
    pub async fn open(path: &Path, helm: Helm, user: UserValues) -> Result<Self, ChartError> {
        Self::check_path(path)?;
        let about: About = serde_yaml::from_str(&show(&helm, "chart", path).await?).unwrap_or_default();
        let text = show(&helm, "values", path).await?;
        let own: Value = serde_yaml::from_str(&text).unwrap_or_default();
        let given = with_nulls(
            coalesced::values(&helm, "", &user, Which::All).await?,
            &own,
            &coalesced::values(&helm, &text, &user, Which::All).await?,
        );
        let set = coalesced::values(&helm, "", &user, Which::Arguments).await?;
        let path = path
            .canonicalize()
            .map_err(|error| not_a_chart(path, &error.to_string()))?;
        let read = ChartValues::read(&own, &own);
        Ok(Self {
            path,
            helm,
            about,
            user: Arc::new(user),
            own: Arc::new(read),
            trees: Arc::new(Trees { own, given, set }),
            refused: Arc::default(),
            surveyed: Arc::default(),
            previous: None,
            raised: Arc::default(),
        })
    }

    /// Returns the chart's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the chart's description from `Chart.yaml`.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Returns the program that deploys the chart.
    pub fn helm(&self) -> &Helm {
        &self.helm
    }

    /// Returns the user's values for the whole run as Helm reads them, without the chart's
    /// defaults.
    pub fn given(&self) -> &Value {
        &self.trees.given
    }

    /// Returns the chart's own defaults for the README's parameters.
    pub fn own_values(&self) -> &Values {
        &self.own.values
    }

    /// Returns true if the chart has this parameter of the README.
    pub fn has(&self, parameter: &str) -> bool {
        !self.own.missing.contains(parameter)
    }

    /// Returns the chart's own defaults in one combination.
    pub fn combination(&self, mode: Mode, variant: Variant) -> Values {
        let mut values = self.own.values.clone();
        (values.mode, values.image.variant) = (mode, variant);
        values
    }

    /// Returns `defaults` overridden by the user's values.
    pub fn settled(&self, defaults: &Values) -> Values {
        self.with_given(defaults).values
    }

    /// Returns the user's values that our own manifests would refuse. The chart decides about them.
    pub fn misfits(&self) -> Vec<ValueError> {
        self.with_given(&self.own.values).misfits
    }

    fn with_given(&self, defaults: &Values) -> ChartValues {
        let mut under = self.trees.own.clone();
        if !under.is_object() {
            under = json!({});
        }
        overlay(&mut under, layer(&self.own.values, defaults));
        let mut tree = under.clone();
        overlay(&mut tree, self.trees.given.clone());
        ChartValues::read(&tree, &under)
    }

    /// Returns this chart for a certain cluster.
    pub fn on_cluster(mut self, kubeconfig: &Kubeconfig) -> Result<Self, ChartError> {
        self.helm = self.helm.with_cluster(kubeconfig)?;
        if let Some(previous) = &self.previous {
            let mut previous = Self::clone(previous);
            previous.helm = self.helm.clone();
            self.previous = Some(Arc::new(previous));
        }
        Ok(self)
    }

    /// Runs `helm template`. Returns the objects and the values of the rendering. The user's values
    /// override `defaults`: the chart's own, as a trial changes them. `wanted`, the trial's final
    /// request, overrides both.
    pub async fn render(
        &self,
        release: &str,
        namespace: &str,
        defaults: &Values,
        wanted: &Values,
    ) -> Result<Bundle, ChartError> {
        let (values, objects) = self.template(release, namespace, defaults, wanted).await?;
        let mut bundle =
            Bundle::from_values(objects).map_err(|source| ChartError::Manifests(Box::new(source)))?;
        bundle.values = Some(Arc::new(values));
        Ok(bundle)
    }

    /// Returns the rendered objects, one JSON value each.
    pub async fn objects(
        &self,
        release: &str,
        namespace: &str,
        defaults: &Values,
        wanted: &Values,
    ) -> Result<Vec<Value>, ChartError> {
        let rendered = self.template(release, namespace, defaults, wanted).await?;
        Ok(rendered.1)
    }

    /// Returns the objects for one side of a conformance case: the README's defaults with
    /// `settings`, in the grammar of `--set`. Ignores the user's values for README parameters,
    /// because the case tests these.
    pub async fn objects_of_case(
        &self,
        release: &str,
        namespace: &str,
        settings: &[&str],
    ) -> Result<Vec<Value>, ChartError> {
        let readme = serde_json::to_value(Values::default()).expect("values are plain JSON");
        let own = serde_json::to_value(&self.own.values).expect("values are plain JSON");
        let mut before = json!({});
        let differing = leaves(&layer_of_trees(&own, &readme)).into_iter();
        for leaf in differing.filter(|leaf| self.has(&leaf.parameter())) {
            overlay(&mut before, leaf.tree());
        }
        overlay(&mut before, undocumented(&self.trees.given));
        let user = UserValues {
            set: settings.iter().map(|&text| text.to_owned()).collect(),
            ..UserValues::default()
        };
        let values = HelmValues::write(&before, &Arc::new(user), &json!({}), &json!({}))?;
        self.run_template(release, namespace, &values).await
    }

    async fn template(
        &self,
        release: &str,
        namespace: &str,
        defaults: &Values,
        wanted: &Values,
    ) -> Result<(HelmValues, Vec<Value>), ChartError> {
        let before = self.taken(layer(&self.own.values, defaults));
        let mut after = layer(&self.settled(defaults), wanted);
        if self.trees.own.pointer(OURS).is_none()
            && let Some(Value::Object(cluster)) = after.get_mut("cluster")
        {
            cluster.remove("drainBeforeScaleDown");
        }
        let values = HelmValues::write(&before, &self.user, &after, &self.trees.set)?;
        match self.run_template(release, namespace, &values).await {
            Ok(objects) => Ok((values, objects)),
            Err(refusal) if refusal.is_of_the_schema() => {
                self.without_refused(release, namespace, [before, after], refusal)
                    .await
            }
            Err(error) => Err(error),
        }
    }

    async fn run_template(
        &self,
        release: &str,
        namespace: &str,
        values: &HelmValues,
    ) -> Result<Vec<Value>, ChartError> {
        let mut command = self.helm.command("template");
        command
            .arg(release)
            .arg(&self.path)
            .arg("--namespace")
            .arg(namespace);
        values.add_to(&mut command);
        let text = self.helm.run(command).await?;
        let documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
        let documents: Vec<Value> = documents.collect::<Result<_, _>>().map_err(ChartError::Output)?;
        Ok(documents
            .into_iter()
            .filter(|document| !document.is_null())
            .collect())
    }
}

/// Returns `given` with `null` for each `own` value that the user removed. Helm omits these from
/// `effective`.
fn with_nulls(mut given: Value, own: &Value, effective: &Value) -> Value {
    let changed = leaves(&layer_of_trees(own, effective)).into_iter();
    for leaf in changed.filter(|leaf| leaf.value.is_null()) {
        overlay(&mut given, leaf.tree());
    }
    given
}

async fn show(helm: &Helm, what: &str, path: &Path) -> Result<String, ChartError> {
    let mut command = helm.command("show");
    command.arg(what).arg(path);
    helm.run(command).await
}

fn not_a_chart(path: &Path, why: &str) -> ChartError {
    ChartError::NotAChart {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}
