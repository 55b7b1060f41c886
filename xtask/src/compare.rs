//! `cargo xtask compare`: the differences between a chart's rendering and ours, object by object,
//! for a reviewer.

use std::process::ExitCode;

use ::manifests::conformance::{Difference, Objects, differences};
use ::manifests::{Hook, Mode, Release, Values, Variant, render};
use anyhow::Context as _;
use harness::release::Chart;
use harness::release::chart::UserValues;

use crate::cli::ChartArgs;
use crate::exit::{QUALIFIED, UsageError};
use crate::{chart, exit};

/// The release of both renderings, with its password. A generated password would be a difference by
/// itself.
const RELEASE: (&str, &str, &str) = ("my-valkey", "default", "placeholder-not-a-secret");

/// Maximum characters of a shown value. A script of a hundred lines would hide other differences.
const SHOWN: usize = 100;

/// Compare a chart's rendering with ours: - what the chart has, + what we have. Without values, in
/// all four combinations of mode and variant.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    chart: ChartArgs,
    /// Exit with 1 when there is a difference.
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command. Exits with 1 if there are differences and `--exit-code` was given.
pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let Some(chart) = chart::open(&args.chart)? else {
        return Err(UsageError("--chart DIR is required: it names the chart to compare".to_owned()).into());
    };
    let runtime = tokio::runtime::Runtime::new().context("failed to start the async runtime")?;
    if let Some(beyond) = runtime.block_on(chart::describe_extensions(&chart)) {
        println!("{beyond}");
    }
    let mut found = 0;
    for (name, defaults, wanted) in sides(&chart, &args.chart) {
        let theirs = runtime.block_on(theirs(&chart, &defaults, &wanted))?;
        let ours = ours(&wanted)?;
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

/// Returns the sides to compare: the given values, or else each combination. Each side has the
/// chart's own defaults and the wanted values.
fn sides(chart: &Chart, args: &ChartArgs) -> Vec<(String, Values, Values)> {
    let combinations: Vec<(String, Values)> = if args.user_values() == UserValues::default() {
        let all = Mode::ALL
            .into_iter()
            .flat_map(|mode| Variant::ALL.map(|variant| (mode, variant)));
        all.map(|(mode, variant)| (format!("{mode}-{variant}"), chart.combination(mode, variant)))
            .collect()
    } else {
        vec![("with the given values".to_owned(), chart.own_values().clone())]
    };
    let settle = |(name, defaults): (String, Values)| {
        let mut wanted = chart.settled(&defaults);
        if wanted.needs_password() {
            RELEASE.2.clone_into(&mut wanted.auth.password);
        }
        (name, defaults, wanted)
    };
    combinations.into_iter().map(settle).collect()
}

async fn theirs(chart: &Chart, defaults: &Values, wanted: &Values) -> anyhow::Result<Objects> {
    let rendered = chart.objects(RELEASE.0, RELEASE.1, defaults, wanted).await?;
    Ok(Objects::new(rendered))
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

/// A checksum depends on the configuration's text, such as the order of directives.
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
