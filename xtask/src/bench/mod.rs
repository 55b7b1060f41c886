//! `cargo xtask bench`: speed of the embedded cluster, as ratios to floors from the same run.
//!
//! | module | row |
//! |---|---|
//! | [`ready`] | from nothing to a cluster that serves |
//! | [`pods`] | from a pod's creation to Running |
//! | [`delivery`] | from a write to every watcher |
//! | [`memory`] | resident memory of the supervisor |
//! | [`formation`] | from install to a formed six-node cluster; [`bare`] is its floor |
//! | [`operations`] | scaling up and down, and a rotation of the password; [`bare_operations`] is their floor |
//! | [`data`] | a million keys of the ledger, and the writes of the load |
//! | [`render`] | from values to objects, next to `helm template` |
//! | [`report`] | from a run of a thousand trials to its report's files |
//! | [`stats`] | percentiles |
//! | [`table`] | figures, their targets, and their rendering |
//!
//! The result is a report for people, not a timed test. A missed target is reported without
//! changing the exit code, since the machine may be busy. A failed measurement is the environment's
//! fault.

mod bare;
mod bare_operations;
mod data;
mod delivery;
mod formation;
mod memory;
mod operations;
mod pods;
mod ready;
mod render;
mod report;
mod stats;
mod table;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use embedded_cluster::supervisor::{EmbeddedCluster, Options};
use harness::cluster::embedded::start_error;
use harness::images::Provenance;
use scenarios::session::{new_run_id, prepare_images};
use tokio::process::Command;

use crate::cli::{BenchArgs, BenchRow};
use crate::exit;
use table::Figure;

/// The deadline of every wait, so that a failing measurement ends. It is a hundred times the
/// expected duration.
const DEADLINE: Duration = Duration::from_secs(120);

/// The environment of every row.
struct Bench {
    /// The folder of the image store.
    store: PathBuf,
    /// The images of the cluster.
    images: Vec<Provenance>,
    /// `valkey-server` and `valkey-cli` outside of any image, for the floors.
    binaries: harness::images::stand_in::Binaries,
    /// The name of the run's clusters.
    run: String,
}

/// Runs the command.
pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the async runtime")?;
    let figures = runtime.block_on(measure(args))?;
    print!("{}", table::render(&figures));
    if let Some(file) = &args.json {
        let text =
            serde_json::to_string_pretty(&table::to_json(&figures)).context("figures are plain data")?;
        std::fs::write(file, text + "\n").with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(ExitCode::from(exit::QUALIFIED))
}

async fn measure(args: &BenchArgs) -> Result<Vec<Figure>> {
    let bench = Bench::prepare(args).await?;
    if cfg!(debug_assertions) {
        eprintln!("note: this is a development build, the one that `cargo xtask` runs");
    }
    let mut figures = Vec::new();
    for row in args.rows() {
        let mut runs = Vec::new();
        for round in 1..=args.repeat {
            eprintln!("measuring {} ({round} of {})", row.name(), args.repeat);
            runs.push(
                Box::pin(bench.row(row))
                    .await
                    .with_context(|| format!("{} cannot be measured", row.name()))?,
            );
        }
        figures.extend(table::medians(runs));
    }
    Ok(figures)
}

impl Bench {
    async fn prepare(args: &BenchArgs) -> Result<Self> {
        let (store, images) = prepare_images(&args.image_source).await?;
        let binaries = tokio::task::spawn_blocking(harness::images::host_binaries)
            .await
            .context("looking for valkey-server panicked")?
            .context("no valkey-server to measure the floors with")?;
        Ok(Self {
            store,
            images,
            binaries,
            run: new_run_id(),
        })
    }

    async fn row(&self, row: BenchRow) -> Result<Vec<Figure>> {
        match row {
            BenchRow::ClusterReady => ready::measure(self).await,
            BenchRow::PodRunning => pods::measure(self).await,
            BenchRow::WatchDelivery => delivery::measure(self).await,
            BenchRow::SupervisorMemory => Box::pin(memory::measure(self)).await,
            BenchRow::Formation => Box::pin(formation::measure(self)).await,
            BenchRow::Operations => Box::pin(operations::measure(self)).await,
            BenchRow::Data => data::measure(self).await,
            BenchRow::Render => render::measure().await,
            BenchRow::Report => report::measure(),
        }
    }

    async fn cluster(&self) -> Result<EmbeddedCluster> {
        let options = Options::new(&self.run, &self.store);
        Ok(EmbeddedCluster::start(options).await.map_err(start_error)?)
    }
}

/// Returns `program` in new namespaces of the kinds of a cluster or a pod, and nothing more.
fn isolated(program: &Path, argument: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--uts", "--ipc", "--fork"]);
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.arg("--").arg(program).arg(argument);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Returns true if a cluster needs no user namespace here. The supervisor decides likewise.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Returns the time that `command` takes from its start to its successful end.
async fn timed(mut command: Command) -> Result<Duration> {
    let begun = std::time::Instant::now();
    let status = command
        .status()
        .await
        .context("the floor's program cannot be run")?;
    let took = begun.elapsed();
    anyhow::ensure!(status.success(), "the floor's program failed: {status}");
    Ok(took)
}
