//! Time of a cluster from nothing to serving.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stats::percentile_ms;
use super::table::{Figure, Goal, Unit};
use super::{Bench, isolated, timed};

/// Number of clusters to start, one after the other.
const STARTS: usize = 5;

/// A time that a person does not notice.
const TARGET_MS: f64 = 250.0;

/// Takes the measurement.
pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let executable = std::env::current_exe().context("this executable has no path")?;
    let (mut starts, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        starts.push(start(bench).await?);
        floors.push(timed(isolated(&executable, "--version")).await?);
    }
    Ok(vec![Figure {
        name: "cluster ready",
        unit: Unit::Milliseconds,
        measured: percentile_ms(&starts, 50.0),
        floor: percentile_ms(&floors, 50.0),
        floor_is: "this same executable, run with --version in the same kinds of new namespaces",
        target: Goal::AtMost(TARGET_MS),
    }])
}

/// Measures from the call to the first answer over TLS.
async fn start(bench: &Bench) -> Result<Duration> {
    let begun = Instant::now();
    let cluster = bench.cluster().await?;
    let answered = cluster.client().apiserver_version().await;
    let took = begun.elapsed();
    cluster.stop().await;
    answered.context("the cluster does not answer")?;
    Ok(took)
}
