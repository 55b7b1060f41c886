//! A chart on disk, as typed on the command line: opened, with the values for it, and described for the run's first lines.

use std::fs;

use ::manifests::values::Overrides;
use ::manifests::{Mode, Values, ValuesInput, Variant};
use anyhow::Context as _;
use harness::release::Chart;
use harness::release::chart::Helm;
use harness::trial::Profile;

use crate::cli::ChartArgs;

/// The chart that was asked for, if any was. `helm` is looked for only then.
pub(crate) fn open(args: &ChartArgs) -> anyhow::Result<Option<Chart>> {
    let Some(folder) = &args.chart else {
        return Ok(None);
    };
    Chart::check_folder(folder)?;
    let mut input = ValuesInput::new();
    for path in &args.values {
        let text =
            fs::read_to_string(path).with_context(|| format!("read values file {}", path.display()))?;
        input = input.file(path.display().to_string(), text);
    }
    let input = args.set.iter().fold(input, ValuesInput::set);
    let overrides = Overrides::new(&input)?;
    let runtime = tokio::runtime::Runtime::new().context("no async runtime could be made")?;
    let helm = runtime.block_on(Helm::find())?;
    Ok(Some(Chart::open(folder, helm, overrides)?))
}

/// What was set must fit every combination, before anything is started.
pub(crate) fn check_overrides(chart: &Chart, profile: Profile) -> anyhow::Result<()> {
    for mode in Mode::ALL {
        for variant in Variant::ALL {
            let mut values = Values::combination(mode, variant);
            profile.apply(&mut values);
            chart.overrides().apply(&values)?;
        }
    }
    Ok(())
}

/// What is under test, in one line.
pub(crate) fn describe(chart: &Chart) -> String {
    let others = chart.overrides().others();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!(
            "; passed on, as the README does not have them: {}",
            others.join(", ")
        )
    };
    format!(
        "the manifests are those of the chart {}, through helm {}{others}",
        chart.folder().display(),
        chart.helm().version()
    )
}

/// What it has beyond the README, in one line, if it has anything.
pub(crate) async fn describe_extensions(chart: &Chart) -> Option<String> {
    let words = chart.beyond_readme().await.words()?;
    Some(format!("the chart has beyond the README, not judged: {words}"))
}
