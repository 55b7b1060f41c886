//! `cargo xtask compare`: how a chart's rendering differs from ours, object by object, for a reviewer.

use std::process::ExitCode;

use ::manifests::conformance::{Difference, Objects, differences};
use ::manifests::{Hook, Mode, Release, Values, Variant, render};
use anyhow::Context as _;
use harness::release::Chart;

use crate::cli::ChartArgs;
use crate::exit::{QUALIFIED, UsageError};
use crate::{chart, exit};

/// The release that both sides render, and its password: one that is generated would be a difference of its own.
const RELEASE: (&str, &str, &str) = ("my-valkey", "default", "placeholder-not-a-secret");

/// How much of a value is shown: a script of a hundred lines hides what else differs.
const SHOWN: usize = 100;

/// Compare a chart's rendering with ours: - what the chart has, + what we have. Without values, in all four combinations
/// of mode and variant.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    chart: ChartArgs,
    /// Exit with 1 when there is a difference.
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command. Exit code 1: there are differences, and `--exit-code` was given.
pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let Some(chart) = chart::open(&args.chart)? else {
        return Err(UsageError("--chart DIR is needed: what is to be compared?".to_owned()).into());
    };
    let runtime = tokio::runtime::Runtime::new().context("no async runtime could be made")?;
    if let Some(beyond) = runtime.block_on(chart::describe_extensions(&chart)) {
        println!("{beyond}");
    }
    let mut found = 0;
    for (name, values) in sides(&chart, &args.chart)? {
        let (theirs, ours) = (runtime.block_on(theirs(&chart, &values))?, ours(&values)?);
        let mut differing = differences(&theirs, &ours);
        differing.retain(|difference| !is_of_the_text(difference));
        found += differing.len();
        println!("{name}: {}", count(differing.len()));
        show(&differing);
    }
    let code = if args.exit_code && found > 0 {
        exit::NOT_QUALIFIED
    } else {
        QUALIFIED
    };
    Ok(ExitCode::from(code))
}

/// What is compared: the values that were given, or else each combination.
fn sides(chart: &Chart, args: &ChartArgs) -> anyhow::Result<Vec<(String, Values)>> {
    let combinations: Vec<(String, Values)> = if args.values.is_empty() && args.set.is_empty() {
        let all = Mode::ALL
            .into_iter()
            .flat_map(|mode| Variant::ALL.map(|variant| (mode, variant)));
        all.map(|(mode, variant)| (format!("{mode}-{variant}"), Values::combination(mode, variant)))
            .collect()
    } else {
        vec![("with the given values".to_owned(), Values::default())]
    };
    let settle = |(name, values): (String, Values)| {
        let mut values = chart.overrides().apply(&values)?;
        if values.needs_password() {
            RELEASE.2.clone_into(&mut values.auth.password);
        }
        Ok((name, values))
    };
    combinations.into_iter().map(settle).collect()
}

async fn theirs(chart: &Chart, values: &Values) -> anyhow::Result<Objects> {
    Ok(Objects::new(chart.objects(RELEASE.0, RELEASE.1, values).await?))
}

fn ours(values: &Values) -> anyhow::Result<Objects> {
    let rendered = render(&Release::install(RELEASE.0, RELEASE.1), values)?;
    Ok(Objects::new(
        rendered
            .objects()
            .into_iter()
            .chain(rendered.hooks.iter().map(Hook::to_value)),
    ))
}

/// A checksum is of the configuration's text: the same directives in another order have another.
fn is_of_the_text(difference: &Difference) -> bool {
    let both = difference.before.is_some() && difference.after.is_some();
    both && difference.path.contains("annotations[checksum/")
}

fn show(differing: &[Difference]) {
    let mut object = "";
    for difference in differing {
        if difference.object != object {
            object = &difference.object;
            println!("  {object}");
        }
        let path = if difference.path.is_empty() {
            "(the object)"
        } else {
            &difference.path
        };
        println!("    {path}");
        for (sign, value) in [('-', &difference.before), ('+', &difference.after)] {
            if let Some(value) = value.as_ref().filter(|_| !difference.path.is_empty()) {
                println!("      {sign} {}", shortened(&value.to_string()));
            }
        }
        if difference.path.is_empty() {
            println!(
                "      only {}",
                if difference.before.is_some() {
                    "the chart has it"
                } else {
                    "we have it"
                }
            );
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
        None => text.to_owned(),
    }
}

fn count(differences: usize) -> String {
    match differences {
        0 => "no difference".to_owned(),
        1 => "1 difference".to_owned(),
        many => format!("{many} differences"),
    }
}
