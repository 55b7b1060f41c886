//! The grammar of the command line. Each command's own file resolves its arguments once.

use std::path::PathBuf;
use std::process::ExitCode;

use ::manifests::values::without_secrets;
use clap::{Args, Parser, Subcommand, ValueEnum};
use embedded_cluster::api::Denial;
use harness::images::ImageSource;
use harness::release::chart::UserValues;
use harness::secret::REDACTED;
use harness::settings::Profile;
use harness::settings::program;
use scenarios::shard::Shard;

use crate::cluster_args::{ClusterArgs, PlacementArgs};
use crate::compare::CompareArgs;
use crate::manifests::ManifestsArgs;
use crate::matrix::MatrixArgs;
use crate::report::ReportCommand;
use crate::storm::StormArgs;
use crate::sweep::SweepArgs;
use crate::tidy::TidyArgs;
use crate::{bench, cluster, compare, doctor, e2e, manifests, matrix, report, storm, sweep, tidy};

/// The largest number of concurrent trials.
pub(crate) const MOST_JOBS: u16 = 64;

/// End-to-end tests for the Percona Valkey Helm chart.
///
/// Exit codes: 0 qualified, 1 a check failed, 2 usage, 3 the environment is at fault, 130
/// interrupted.
#[derive(Debug, Parser)]
#[command(
    name = program(),
    bin_name = program(),
    version,
    infer_long_args = false
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the suites on a cluster, and report whether the deployment keeps its promises.
    E2e(Box<E2eArgs>),
    /// Show in which objects and fields a chart's rendering differs from ours.
    Compare(CompareArgs),
    /// Render the chart: the committed files, or any values.
    Manifests(ManifestsArgs),
    /// Start, reach and remove an embedded cluster that outlives the command.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Merge, compare, show and recover reports.
    #[command(subcommand)]
    Report(ReportCommand),
    /// Print the jobs of a CI pipeline.
    Matrix(MatrixArgs),
    /// Say which clusters this machine can run trials on, and what the others lack.
    Doctor,
    /// Remove what killed runs left behind, and say what was done.
    Sweep(SweepArgs),
    /// Kill runs at random moments, in every way, and check what they leave behind.
    Storm(StormArgs),
    /// Measure how fast the embedded cluster is, next to floors measured in the same run.
    Bench(BenchArgs),
    /// Check rules about the source tree: layers, docs, words, commands in guides.
    Tidy(TidyArgs),
}

impl Command {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::E2e(args) => e2e::run(*args),
            Self::Compare(args) => compare::run(&args),
            Self::Manifests(args) => manifests::run(&args),
            Self::Cluster(command) => cluster::run(command),
            Self::Report(command) => report::run(command),
            Self::Matrix(args) => matrix::run(&args),
            Self::Doctor => doctor::run(),
            Self::Sweep(args) => sweep::run(args),
            Self::Storm(args) => storm::run(&args),
            Self::Bench(args) => bench::run(&args),
            Self::Tidy(args) => tidy::run(&args),
        }
    }
}

/// The arguments of `e2e`, as typed.
#[derive(Debug, Args)]
pub(crate) struct E2eArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
    /// Only this mode; may be repeated.
    #[arg(long, value_enum)]
    pub(crate) mode: Vec<ModeArg>,
    /// Only this image variant; may be repeated.
    #[arg(long, value_enum)]
    pub(crate) variant: Vec<VariantArg>,
    /// Only trials with this in their name (suite::scenario::mode-variant); may be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) scenario: Vec<String>,
    /// Only this part of the selected trials: the I-th of N with similar durations.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,
    /// fast: short probe delays and node timeout; default: the chart's own values.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) profile: ProfileArg,
    /// Number of concurrent trials [default: four times the processors, 64 at most].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_JOBS)))]
    pub(crate) jobs: Option<u16>,
    /// Leave the cluster and every namespace, and print how to reach them.
    #[arg(long)]
    pub(crate) keep: bool,
    /// The folder of the report, which replaces that of an earlier run [default: reports/RUN].
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Mark regressions since the run of this report.json.
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Accept the findings that this TOML file lists; `report known` writes a first one.
    #[arg(long, value_name = "FILE")]
    pub(crate) known: Option<PathBuf>,
    /// The origin of the images: auto, pull, stand-in or archive=PATH.
    #[arg(long, value_name = "SOURCE", default_value = "auto")]
    pub(crate) image_source: ImageSource,
    /// The seed of everything random, from an earlier report.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Print the selected trials without running them.
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) chart: ChartArgs,
}

/// A chart on disk, and values for it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChartArgs {
    /// Take the manifests from this chart directory or package, through helm, instead of our own
    /// generator.
    #[arg(long, value_name = "DIR|FILE.tgz")]
    pub(crate) chart: Option<PathBuf>,
    /// An older version of the chart. Releases upgrade from it and roll back to it
    /// [default: upgrades go to a copy with a higher version].
    #[arg(long, value_name = "DIR|FILE.tgz", requires = "chart")]
    pub(crate) from_chart: Option<PathBuf>,
    /// A values file for the chart; may be repeated, later ones win.
    #[arg(short = 'f', long = "values", value_name = "FILE", requires = "chart")]
    pub(crate) values: Vec<PathBuf>,
    /// Values for the chart in Helm's --set grammar; may be repeated, these win over files.
    #[arg(long, value_name = "KEY=VALUE", requires = "chart")]
    pub(crate) set: Vec<String>,
    /// As --set, but always a text.
    #[arg(long, value_name = "KEY=TEXT", requires = "chart")]
    pub(crate) set_string: Vec<String>,
    /// As --set, in JSON.
    #[arg(long, value_name = "KEY=JSON", requires = "chart")]
    pub(crate) set_json: Vec<String>,
    /// As --set, with the content of a file as the value.
    #[arg(long, value_name = "KEY=FILE", requires = "chart")]
    pub(crate) set_file: Vec<String>,
    /// As --set, but with the value taken literally.
    #[arg(long, value_name = "KEY=TEXT", requires = "chart")]
    pub(crate) set_literal: Vec<String>,
}

impl E2eArgs {
    /// Returns the words that a command needs to repeat a trial, besides the trial's own. Names
    /// every argument, so that a new one is not forgotten.
    pub(crate) fn words_to_repeat(&self) -> Vec<String> {
        let Self {
            cluster,
            placement,
            image_source,
            chart,
            // The trial has its own.
            mode: _,
            variant: _,
            scenario: _,
            shard: _,
            profile: _,
            seed: _,
            // These do not change the results.
            jobs: _,
            keep: _,
            report: _,
            baseline: _,
            known: _,
            list: _,
        } = self;
        let mut words = cluster.words();
        words.extend(placement.words());
        if *image_source != ImageSource::default() {
            words.extend(["--image-source".to_owned(), image_source.to_string()]);
        }
        words.extend(chart.words());
        words
    }
}

impl ChartArgs {
    /// Returns the typed words for reports, without those that could be a secret.
    fn words(&self) -> Vec<String> {
        let given = self.user_values();
        let flag = |name: &str, value: String| [name.to_owned(), value];
        let path = |path: &PathBuf| path.display().to_string();
        let chart = self.chart.iter().map(|folder| flag("--chart", path(folder)));
        let from = self
            .from_chart
            .iter()
            .map(|folder| flag("--from-chart", path(folder)));
        let files = given.files.iter().map(|file| flag("-f", path(file)));
        let settings = given.settings().map(|(name, text)| flag(name, shown(name, text)));
        chart.chain(from).chain(files).chain(settings).flatten().collect()
    }

    /// Returns the values to pass to helm unchanged.
    pub(crate) fn user_values(&self) -> UserValues {
        // Names every argument, so that a new one is not forgotten.
        let Self {
            chart: _,
            from_chart: _,
            values,
            set,
            set_string,
            set_json,
            set_file,
            set_literal,
        } = self.clone();
        UserValues {
            files: values,
            set_json,
            set,
            set_string,
            set_file,
            set_literal,
        }
    }
}

/// Returns a setting without possible secrets. For grammars other than that of `--set`, only the
/// key is shown.
fn shown(flag: &str, text: &str) -> String {
    match (flag, text.split_once('=')) {
        ("--set" | "--set-string", _) => without_secrets(text, REDACTED),
        // The name of a file is not a secret.
        ("--set-file", Some(_)) => text.to_owned(),
        (_, Some((key, _))) => format!("{key}={REDACTED}"),
        (_, None) => REDACTED.to_owned(),
    }
}

/// The chart's `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    Standalone,
    Cluster,
}

impl From<ModeArg> for ::manifests::Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Standalone => Self::Standalone,
            ModeArg::Cluster => Self::Cluster,
        }
    }
}

/// The chart's `image.variant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VariantArg {
    Rpm,
    Hardened,
}

impl From<VariantArg> for ::manifests::Variant {
    fn from(variant: VariantArg) -> Self {
        match variant {
            VariantArg::Rpm => Self::Rpm,
            VariantArg::Hardened => Self::Hardened,
        }
    }
}

/// Values and deadlines of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileArg {
    #[default]
    Fast,
    Default,
}

impl From<ProfileArg> for Profile {
    fn from(profile: ProfileArg) -> Self {
        match profile {
            ProfileArg::Fast => Self::Fast,
            ProfileArg::Default => Self::Default,
        }
    }
}

/// The commands of `cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Start a cluster and leave it running; prints the path of its kubeconfig.
    Up {
        #[command(flatten)]
        name: ClusterName,
        /// Where the images come from: auto, pull, stand-in or archive=PATH.
        #[arg(long, value_name = "SOURCE", default_value = "auto")]
        image_source: ImageSource,
        /// Add a second user, in the context NAME-restricted, who may do everything but this; may
        /// be repeated.
        #[arg(long, value_name = "VERB:RESOURCE[:NAMESPACE]")]
        deny: Vec<Denial>,
    },
    /// Remove a cluster and everything in it.
    Down(ClusterName),
    /// Print the path of a running cluster's kubeconfig.
    Kubeconfig(ClusterName),
}

/// The arguments of `bench`, as typed.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Only this row; may be repeated.
    #[arg(long, value_enum, value_name = "ROW")]
    only: Vec<BenchRow>,
    /// Measure each row this many times, and show the run with the middle ratio.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) repeat: u16,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The origin of the images: auto, pull, stand-in or archive=PATH.
    #[arg(long, value_name = "SOURCE", default_value = "auto")]
    pub(crate) image_source: ImageSource,
}

impl BenchArgs {
    /// Returns the rows to measure, each once, in their fixed order.
    pub(crate) fn rows(&self) -> Vec<BenchRow> {
        let all = BenchRow::value_variants().iter().copied();
        all.filter(|row| self.only.is_empty() || self.only.contains(row))
            .collect()
    }
}

/// The rows of `bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchRow {
    /// From nothing to a serving cluster.
    ClusterReady,
    /// From a pod's creation to Running.
    PodRunning,
    /// From a write to all 100 watchers.
    WatchDelivery,
    /// Resident memory of the supervisor.
    SupervisorMemory,
    /// From install to six formed nodes.
    Formation,
    /// Scaling up and down, and a rotation of the password.
    Operations,
    /// A million keys of the ledger, and the writes of the load.
    Data,
    /// From values to objects.
    Render,
    /// From a run of a thousand trials to its report files.
    Report,
}

impl BenchRow {
    /// Returns the name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The name of a cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterName {
    /// The cluster's name.
    #[arg(long, default_value = "valkey")]
    pub(crate) name: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn words_to_repeat_leave_out_secrets_and_defaults() {
        let again = |typed: &str| {
            let words = ["xtask", "e2e"]
                .into_iter()
                .chain(typed.split(' ').filter(|word| !word.is_empty()));
            match Arguments::try_parse_from(words).map(|arguments| arguments.command) {
                Ok(Command::E2e(args)) => args.words_to_repeat().join(" "),
                other => panic!("expected the arguments of e2e, got {other:?}"),
            }
        };
        assert_eq!(
            again("--mode cluster --jobs 3 --cluster embedded --image-source auto"),
            ""
        );
        let chart = "--chart charts/own -f a.yaml -f b.yaml --set auth.password=hunter2,mode=cluster --set own=hunter2";
        assert_eq!(
            again(chart),
            "--chart charts/own -f a.yaml -f b.yaml --set auth.password=[redacted],mode=cluster --set own=[redacted]"
        );
        for elsewhere in [
            "--cluster kubeconfig --context site --kubeconfig /etc/kube --namespace-prefix gate --pod-security baseline \
             --storage-class fast --node-selector disk=ssd --node-selector zone=a --image-pull-secret site/registry",
            "--cluster kind --kind-config multi-node --kube-version v1.36.1 --image-source stand-in",
            "--cluster kind --reuse mine",
        ] {
            let elsewhere = elsewhere.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(again(&elsewhere), elsewhere);
        }
    }

    #[test]
    fn bench_measures_what_was_asked_for_in_its_own_order() {
        let rows = |typed: &[&str]| {
            let words = ["xtask", "bench"].iter().chain(typed);
            match Arguments::try_parse_from(words).map(|arguments| arguments.command) {
                Ok(Command::Bench(args)) => args.rows(),
                other => panic!("expected the arguments of bench, got {other:?}"),
            }
        };
        assert_eq!(rows(&[]), BenchRow::value_variants());
        let some = [
            "--only",
            "formation",
            "--only",
            "cluster-ready",
            "--only",
            "formation",
        ];
        assert_eq!(rows(&some), [BenchRow::ClusterReady, BenchRow::Formation]);
    }

    #[test]
    fn the_embedded_node_has_room_for_the_most_parallel_trials() {
        // The largest has ten servers and a Job. Those that watch for a minute at their end do so
        // next to the others.
        let (largest, watching) = (11, 5);
        let most = (u32::from(MOST_JOBS) + watching) * largest;
        assert!(
            most <= embedded_cluster::node::MAX_PODS,
            "{MOST_JOBS} trials at a time are up to {most} pods"
        );
    }
}
