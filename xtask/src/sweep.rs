//! `cargo xtask sweep`: finds the left-overs of killed runs, removes them, and reports them.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use harness::cluster::k3s::Engine;
use harness::cluster::kind::Tools;
use harness::cluster::sweep::{Fate, LeftOver, Sweep, began};
use harness::cluster::{ChosenContext, ClusterError};
use jiff::{SignedDuration, Timestamp};
use scenarios::session::{ClusterChoice, clusters_folder};

use crate::cluster_args::ClusterArgs;
use crate::exit;

/// The age beyond which no run is still going.
const SAFE_AGE: SignedDuration = SignedDuration::from_hours(2);

/// The arguments of `sweep`, as typed.
#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Only left-overs of at least this age, such as 90m. A younger run may still be going
    /// [default: 2h; 0s with --run].
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<SignedDuration>,
    /// Only left-overs of this run, at any age.
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Remove nothing, and print what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub(crate) fn run(args: SweepArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the async runtime")?;
    let any_age = args.run.is_some();
    let default = if any_age { SignedDuration::ZERO } else { SAFE_AGE };
    let sweep = Sweep {
        older_than: args.older_than.unwrap_or(default),
        run: args.run,
        dry: args.dry_run,
    };
    let found = match args.cluster.resolve()? {
        ClusterChoice::Embedded => lasting_clusters(&sweep)?,
        ClusterChoice::Kind(how) => runtime.block_on(kind_clusters(&how.tools, &sweep))?,
        ClusterChoice::K3s(_) => runtime.block_on(k3s_containers(&sweep))?,
        ClusterChoice::Kubeconfig(which) => runtime.block_on(async {
            let context = ChosenContext::find(&which).await?;
            println!(
                "context {} is {}, Kubernetes {}",
                which.context,
                context.server(),
                context.version().await?
            );
            let client = context.client()?;
            sweep
                .namespaces(&client)
                .await
                .context("namespaces could not be listed")
        })?,
    };
    for left_over in &found {
        println!("{left_over}");
    }
    let count = |fate: &Fate| found.iter().filter(|found| &found.fate == fate).count();
    let stuck = found
        .iter()
        .filter(|found| matches!(found.fate, Fate::Stuck(_)))
        .count();
    println!(
        "{} found, {} removed, {} too young, {stuck} could not be removed",
        found.len(),
        count(&Fate::Removed),
        count(&Fate::TooYoung)
    );
    Ok(ExitCode::from(if stuck > 0 {
        exit::ENVIRONMENT
    } else {
        exit::QUALIFIED
    }))
}

/// Finds embedded clusters that a run kept. Any other died with its run.
fn lasting_clusters(sweep: &Sweep) -> anyhow::Result<Vec<LeftOver>> {
    let folder = clusters_folder()?;
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("{} cannot be read", folder.display()))?,
    };
    let names = entries.flatten().filter(|entry| entry.path().is_dir());
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    Ok(judge(names, sweep)
        .map(|mut found| {
            let cluster = embedded_cluster::supervisor::LastingCluster::named(&found.run, &folder);
            found.what = format!("embedded cluster {}", found.run);
            if found.fate == Fate::Found && !sweep.dry {
                use embedded_cluster::supervisor::LastingError;
                found.fate = match cluster.down() {
                    // The process is already gone; only the folder is removed.
                    Ok(()) | Err(LastingError::NotRunning(_)) => Fate::Removed,
                    Err(error) => Fate::Stuck(error.to_string()),
                };
            }
            found
        })
        .collect())
}

/// Finds kind clusters that are named after a run.
async fn kind_clusters(tools: &Tools, sweep: &Sweep) -> anyhow::Result<Vec<LeftOver>> {
    let failed = |source| ClusterError::Start {
        provider: "kind",
        source: Box::new(source),
    };
    tools.check().await.map_err(failed)?;
    let mut all = Vec::new();
    for mut found in judge(tools.clusters().await.map_err(failed)?.into_iter(), sweep) {
        found.what = format!("kind cluster {}", found.run);
        if found.fate == Fate::Found && !sweep.dry {
            let deleted = tools
                .run("kind", &["delete", "cluster", "--name", &found.run])
                .await;
            found.fate = removed(&found.run, deleted);
        }
        all.push(found);
    }
    Ok(all)
}

/// Finds containers with the label of a run.
async fn k3s_containers(sweep: &Sweep) -> anyhow::Result<Vec<LeftOver>> {
    let failed = |source| ClusterError::Start {
        provider: "k3s",
        source: Box::new(source),
    };
    let engine = Engine::find().await.map_err(failed)?;
    let mut all = Vec::new();
    for container in engine.containers().await.map_err(failed)? {
        for mut found in judge(std::iter::once(container.run.clone()), sweep) {
            found.what = format!("k3s container {}", found.run);
            if found.fate == Fate::Found && !sweep.dry {
                found.fate = removed(&found.run, engine.remove(&container).await);
            }
            all.push(found);
        }
    }
    Ok(all)
}

/// Returns the fate of a run's cluster. Also removes its kubeconfig with the useless credentials.
fn removed<T, E: std::fmt::Display>(run: &str, outcome: Result<T, E>) -> Fate {
    match outcome {
        Err(error) => Fate::Stuck(error.to_string()),
        Ok(_) => {
            if let Ok(folder) = clusters_folder() {
                // A run that was killed early has no kubeconfig.
                let _ = std::fs::remove_file(folder.join(format!("{run}.kubeconfig")));
            }
            Fate::Removed
        }
    }
}

/// Returns the clusters among `names` that runs made, with the fate of each. Ignores all others.
fn judge(names: impl Iterator<Item = String>, sweep: &Sweep) -> impl Iterator<Item = LeftOver> {
    let now = Timestamp::now();
    names.filter(|name| sweep.covers(name)).filter_map(move |run| {
        let made = began(&run)?;
        Some(LeftOver {
            what: String::new(),
            fate: sweep.fate(made, now),
            age: SignedDuration::from_secs(now.duration_since(made).as_secs()),
            run,
        })
    })
}

fn age(text: &str) -> Result<SignedDuration, String> {
    let age: SignedDuration = text
        .parse()
        .map_err(|_| "an age is like 90m, 2h or 1h30m".to_owned())?;
    if age.is_negative() {
        return Err("an age is not negative".to_owned());
    }
    Ok(age)
}
