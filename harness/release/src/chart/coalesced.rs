//! Merges a chart's defaults with all given values. `helm` itself does it, with a chart that
//! renders only its values. Numbers, `null` and the grammar of `--set` thus have Helm's meaning.

use serde::Deserialize;
use serde_json::Value;

use super::error::ChartError;
use super::program::Helm;
use super::values::UserValues;

const CHART: &str = "apiVersion: v2\nname: values\nversion: 0.0.0\n";
const TEMPLATE: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: values}\nvalues: {{ toJson .Values }}\n";

/// The selection of the user's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Files and arguments.
    All,
    /// Arguments only.
    Arguments,
}

#[derive(Deserialize)]
struct Rendered {
    values: Value,
}

/// Returns the merged values of a chart with the `values.yaml` text `own`.
pub(super) async fn values(
    helm: &Helm,
    own: &str,
    user: &UserValues,
    which: Which,
) -> Result<Value, ChartError> {
    let folder = tempfile::tempdir().map_err(ChartError::File)?;
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
        std::fs::write(path, text)
    };
    for (name, text) in [
        ("Chart.yaml", CHART),
        ("values.yaml", own),
        ("templates/values.yaml", TEMPLATE),
    ] {
        write(name, text).map_err(ChartError::File)?;
    }
    let mut command = helm.command("template");
    command.arg("values").arg(folder.path());
    if which == Which::All {
        user.add_files(&mut command);
    }
    user.add_settings(&mut command);
    let text = helm.run(command).await.map_err(|error| match error {
        ChartError::Refused { said, .. } => ChartError::Values {
            said: said.trim_start_matches("Error: ").trim_end().to_owned(),
        },
        other => other,
    })?;
    let rendered: Rendered = serde_yaml::from_str(&text).map_err(ChartError::Output)?;
    Ok(rendered.values)
}
