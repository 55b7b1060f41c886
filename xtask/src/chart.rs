//! A chart on disk from the command line. Opens it with its values, and describes it for the run's
//! first lines.

use ::manifests::Mode;
use ::manifests::Variant;
use ::manifests::values::chart_values::{leaves, undocumented};
use anyhow::Context as _;
use harness::release::chart::Helm;
use harness::release::{Chart, ChartError};

use crate::cli::ChartArgs;
use crate::exit::UsageError;

/// Opens the requested chart, if there is one. Only then is `helm` needed.
pub(crate) fn open(args: &ChartArgs) -> anyhow::Result<Option<Chart>> {
    let Some(path) = &args.chart else {
        return Ok(None);
    };
    Chart::check_path(path)?;
    args.from_chart.as_deref().map(Chart::check_path).transpose()?;
    let runtime = tokio::runtime::Runtime::new().context("failed to start the async runtime")?;
    let chart = runtime.block_on(async {
        let helm = Helm::find().await?;
        let chart = Chart::open(path, helm.clone(), args.user_values()).await?;
        let Some(previous) = &args.from_chart else {
            return Ok::<_, ChartError>(chart);
        };
        let previous = Chart::open(previous, helm, args.user_values()).await?;
        Ok(chart.with_previous(previous))
    })?;
    Ok(Some(chart))
}

/// Fails for values that fix a combination without a trial.
pub(crate) fn check_combination(chart: &Chart) -> anyhow::Result<()> {
    let modes: Vec<&str> = Mode::ALL.iter().map(|mode| mode.as_str()).collect();
    let variants: Vec<&str> = Variant::ALL.iter().map(|variant| variant.as_str()).collect();
    let given = chart.given();
    for (parameter, value, known) in [
        ("mode", &given["mode"], modes),
        ("image.variant", &given["image"]["variant"], variants),
    ] {
        if let Some(value) = value.as_str().filter(|value| !known.contains(value)) {
            let known = known.join(", ");
            return Err(UsageError(format!(
                "the values set {parameter} to {value:?}, for which there is no trial: {parameter} can be {known}"
            ))
            .into());
        }
    }
    Ok(())
}

/// Describes the subject under test, in one line.
pub(crate) fn describe(chart: &Chart) -> String {
    let others = leaves(&undocumented(chart.given()));
    let others: Vec<String> = others.iter().map(|leaf| leaf.keys.join(".")).collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!(
            "; not in the README, passed to helm unchanged: {}",
            others.join(", ")
        )
    };
    format!(
        "manifests from the chart {}, rendered by helm {}{others}",
        chart.path().display(),
        chart.helm().version()
    )
}

/// Returns a line for each setting that our own manifests would refuse. The chart may accept it.
pub(crate) fn warnings(chart: &Chart) -> Vec<String> {
    let warning =
        |misfit: &dyn std::fmt::Display| format!("the README does not describe this value: {misfit}");
    chart.misfits().iter().map(|misfit| warning(misfit)).collect()
}

/// Describes the parts of the chart beyond the README, in one line, if there are any.
pub(crate) async fn describe_extensions(chart: &Chart) -> Option<String> {
    let words = chart.beyond_readme().await.words()?;
    Some(format!(
        "parts of the chart beyond the README, not judged: {words}"
    ))
}
