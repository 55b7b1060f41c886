//! `cargo xtask matrix`: the jobs of a CI pipeline, with the arguments of `cargo xtask e2e` for
//! each.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use harness::cluster::KubeVersion;
use harness::report::file;
use manifests::{Mode, Variant};
use scenarios::registry::{self, SUITES, Trial};
use scenarios::shard::{Costs, Shard};
use serde_json::{Value, json};

use crate::cluster_args::ClusterKind;

/// Time of a job outside of its trials: checkout, build from a cache, cluster start.
const OVERHEAD: Duration = Duration::from_secs(180);

/// The arguments of `matrix`, as typed.
#[derive(Debug, Args)]
pub(crate) struct MatrixArgs {
    /// The CI program.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Number of jobs of similar length for each cluster and version. The default is one job for
    /// each mode, variant and suite.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: Option<u16>,
    /// The cluster of the trials; may be repeated [default: embedded].
    #[arg(long, value_enum)]
    cluster: Vec<ClusterKind>,
    /// kind, k3s: a Kubernetes version, such as v1.36; may be repeated.
    #[arg(long, value_name = "vX.Y")]
    kube_version: Vec<KubeVersion>,
    /// The report.json of an earlier run, for the duration of each trial.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For `strategy.matrix: ${{ fromJson(…) }}`.
    Github,
    /// A child pipeline.
    Gitlab,
    /// The jobs as a list.
    Json,
    /// For people.
    #[default]
    Table,
}

/// One job.
#[derive(Debug)]
struct Job {
    /// The name for people, which is unique.
    name: String,
    /// The group of reports that can be merged: jobs with the same cluster and version.
    group: String,
    /// The name of its uploaded report.
    artifact: String,
    cluster: String,
    kube_version: String,
    arguments: String,
    trials: usize,
    minutes: u64,
}

/// Runs the command.
pub(crate) fn run(args: &MatrixArgs) -> anyhow::Result<ExitCode> {
    let costs = match &args.report {
        Some(path) => Costs::measured(&file::read(path)?),
        None => Costs::default(),
    };
    let jobs = jobs(args, &costs);
    let list: Vec<Value> = jobs.iter().map(to_json).collect();
    match args.format {
        Format::Github => println!("{}", json!({ "include": list })),
        Format::Gitlab => println!("{}", gitlab(&jobs)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&list)?),
        Format::Table => print!("{}", table(&jobs)),
    }
    Ok(ExitCode::SUCCESS)
}

fn jobs(args: &MatrixArgs, costs: &Costs) -> Vec<Job> {
    let clusters = if args.cluster.is_empty() {
        vec![ClusterKind::Embedded]
    } else {
        args.cluster.clone()
    };
    let mut jobs = Vec::new();
    for cluster in clusters {
        let name = cluster.name();
        let versions = match args.kube_version.as_slice() {
            several @ [_, ..] if cluster.has_versions() => {
                several.iter().map(KubeVersion::to_string).collect()
            }
            _ => vec![String::new()],
        };
        for version in versions {
            let make =
                |part: &str, more: &str, trials: &[Trial]| job(&name, &version, part, more, trials, costs);
            match args.shards {
                Some(count) => jobs.extend(Shard::all(usize::from(count)).map(|shard| {
                    let part = format!("shard {shard}");
                    // `e2e --shard` divides by the same estimates. A report gives only the
                    // durations of the parts.
                    make(
                        &part,
                        &format!(" --shard {shard}"),
                        &shard.of(registry::trials(), &Costs::default()),
                    )
                })),
                None => jobs.extend(combinations().map(|(mode, variant, suite, trials)| {
                    let more = format!(" --mode {mode} --variant {variant} --scenario {suite}::");
                    make(&format!("{suite} {mode}-{variant}"), &more, &trials)
                })),
            }
        }
    }
    jobs
}

/// Returns every mode, variant and suite that has trials.
fn combinations() -> impl Iterator<Item = (Mode, Variant, &'static str, Vec<Trial>)> {
    let pairs = Mode::ALL
        .into_iter()
        .flat_map(|mode| Variant::ALL.map(|variant| (mode, variant)));
    let all = pairs.flat_map(|(mode, variant)| SUITES.iter().map(move |suite| (mode, variant, suite.name)));
    all.filter_map(|(mode, variant, suite)| {
        let mut trials = registry::trials();
        trials.retain(|trial| (trial.id.mode, trial.id.variant, trial.id.suite) == (mode, variant, suite));
        (!trials.is_empty()).then_some((mode, variant, suite, trials))
    })
}

fn job(cluster: &str, version: &str, part: &str, more: &str, trials: &[Trial], costs: &Costs) -> Job {
    let work: Duration = trials.iter().map(|trial| costs.of(trial)).sum();
    let version_argument = if version.is_empty() {
        String::new()
    } else {
        format!(" --kube-version {version}")
    };
    let on = [cluster, version]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let group = on.replace(' ', "-");
    Job {
        name: format!("{on}, {part}"),
        artifact: format!("report-{group}-{}", part.replace([' ', '/'], "-")),
        group,
        cluster: cluster.to_owned(),
        kube_version: version.to_owned(),
        arguments: format!("--cluster {cluster}{version_argument}{more}"),
        trials: trials.len(),
        // Two processors run eight trials concurrently, which is at least twice as fast as one by
        // one.
        minutes: (OVERHEAD + work / 2).as_secs().div_ceil(60),
    }
}

fn to_json(job: &Job) -> Value {
    json!({
        "name": job.name, "group": job.group, "artifact": job.artifact, "cluster": job.cluster, "kube_version": job.kube_version, "arguments": job.arguments,
        "trials": job.trials, "minutes": job.minutes,
    })
}

/// Renders JSON, which is YAML and so a child pipeline for GitLab.
fn gitlab(jobs: &[Job]) -> Value {
    let of = |job: &Job| {
        let script = json!([format!("cargo xtask e2e {} --report report", job.arguments)]);
        let artifacts = json!({"when": "always", "paths": ["report"]});
        (
            job.name.clone(),
            json!({"script": script, "artifacts": artifacts, "timeout": format!("{}m", job.minutes * 3)}),
        )
    };
    Value::Object(jobs.iter().map(of).collect())
}

fn table(jobs: &[Job]) -> String {
    let width = jobs.iter().map(|job| job.name.len()).max().unwrap_or(0);
    let line = |job: &Job| {
        let Job {
            name,
            arguments,
            trials,
            minutes,
            ..
        } = job;
        let unit = if *trials == 1 { "trial " } else { "trials" };
        format!("{name:<width$}  {trials:>3} {unit}  {minutes:>3} min  {arguments}\n")
    };
    jobs.iter().map(line).collect()
}

/// Returns the keys of a job that a workflow can use, as `${{ matrix.KEY }}`.
#[cfg(test)]
pub(crate) fn keys() -> Vec<String> {
    let job = job("embedded", "", "shard 1/1", "", &[], &Costs::default());
    let Value::Object(keys) = to_json(&job) else {
        unreachable!("a job is an object")
    };
    keys.into_iter().map(|(key, _)| key).collect()
}

/// Returns the arguments of every possible job of a matrix, for the test of the workflows.
#[cfg(test)]
pub(crate) fn every_argument() -> Vec<String> {
    let args = |shards| MatrixArgs {
        format: Format::Json,
        shards,
        cluster: vec![ClusterKind::Embedded, ClusterKind::Kind, ClusterKind::K3s],
        kube_version: vec!["v1.36".parse().expect("an image is known for it")],
        report: None,
    };
    let all = [args(None), args(Some(3))];
    let jobs = all.iter().flat_map(|args| jobs(args, &Costs::default()));
    jobs.map(|job| job.arguments).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn matrix(typed: &str) -> Vec<Job> {
        let words = ["xtask", "matrix"].into_iter().chain(typed.split_whitespace());
        match Arguments::try_parse_from(words).map(|arguments| arguments.command) {
            Ok(Command::Matrix(args)) => jobs(&args, &Costs::default()),
            other => panic!("expected the arguments of matrix, got {other:?}"),
        }
    }

    #[test]
    fn without_shards_the_jobs_cover_every_trial_by_suite() {
        let jobs = matrix("");
        assert_eq!(
            jobs.iter().map(|job| job.trials).sum::<usize>(),
            registry::trials().len()
        );
        let forms = "--cluster embedded --mode cluster --variant hardened --scenario formation::";
        assert!(jobs.iter().any(|job| job.arguments == forms));
    }

    #[test]
    fn versions_are_an_axis_of_what_a_run_makes_itself() {
        let jobs = matrix(
            "--shards 2 --cluster embedded --cluster kind --cluster k3s --kube-version v1.35 --kube-version v1.36.4",
        );
        let arguments: Vec<&str> = jobs.iter().map(|job| job.arguments.as_str()).collect();
        assert_eq!(arguments.len(), 10);
        assert_eq!(arguments[1], "--cluster embedded --shard 2/2");
        assert_eq!(arguments[5], "--cluster kind --kube-version v1.36.4 --shard 2/2");
        assert_eq!(arguments[6], "--cluster k3s --kube-version v1.35 --shard 1/2");
        // Reports of one group can be merged; artifacts have their own names.
        let groups: BTreeSet<&str> = jobs.iter().map(|job| job.group.as_str()).collect();
        let expected = [
            "embedded",
            "k3s-v1.35",
            "k3s-v1.36.4",
            "kind-v1.35",
            "kind-v1.36.4",
        ];
        assert_eq!(groups, BTreeSet::from(expected));
        let artifacts: BTreeSet<&str> = jobs.iter().map(|job| job.artifact.as_str()).collect();
        assert_eq!(artifacts.len(), jobs.len());
        let of_kind = jobs[2..4].iter().map(|job| job.trials).sum::<usize>();
        assert_eq!(of_kind, registry::trials().len());
    }

    #[test]
    fn every_format_has_every_job() {
        let jobs = matrix("--shards 3");
        assert_eq!(table(&jobs).lines().count(), 3);
        let pipeline = gitlab(&jobs);
        let script = &pipeline["embedded, shard 2/3"]["script"][0];
        assert_eq!(
            script,
            "cargo xtask e2e --cluster embedded --shard 2/3 --report report"
        );
        assert_eq!(to_json(&jobs[0])["arguments"], "--cluster embedded --shard 1/3");
        assert_eq!(to_json(&jobs[0])["artifact"], "report-embedded-shard-1-3");
    }
}
