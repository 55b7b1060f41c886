//! How long a combination takes from values to objects, beside `helm template` of an equivalent chart.

use std::path::Path;
use std::time::{Duration, Instant};

use ::manifests::values::Overrides;
use ::manifests::{Mode, Release, Values, Variant, render};
use anyhow::{Context, Result};
use harness::release::chart::{Chart, ChartError, Helm};

use super::stats::percentile_ms;
use super::table::{Figure, Target, Unit};

/// How often each of the two is done: one is a process, the other a function.
const PROCESSES: usize = 10;
const CALLS: usize = 300;

/// What makes the difference between a suite that renders whenever it likes and one that thinks twice.
const TIMES_FASTER: f64 = 200.0;

/// The chart that renders the very same objects; `cargo xtask compare` says so.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/testdata/chart");

/// Takes the measurement. Without `helm` there is nothing to take: a line says so.
pub(super) async fn measure() -> Result<Vec<Figure>> {
    let helm = match Helm::find().await {
        Err(ChartError::Missing) => {
            eprintln!("note: without helm on PATH, rendering is not measured");
            return Ok(Vec::new());
        }
        found => found.context("helm cannot be used")?,
    };
    let chart = Chart::open(Path::new(CHART), helm, Overrides::default()).context("the example chart")?;
    let mut values = Values::combination(Mode::Cluster, Variant::Hardened);
    "placeholder-not-a-secret".clone_into(&mut values.auth.password);
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..PROCESSES {
        let begun = Instant::now();
        chart
            .objects("my-valkey", "default", &values)
            .await
            .context("the example chart does not render")?;
        theirs.push(begun.elapsed());
    }
    for _ in 0..CALLS {
        ours.push(once(&values)?);
    }
    Ok(vec![Figure {
        name: "helm template",
        unit: Unit::Milliseconds,
        measured: percentile_ms(&theirs, 50.0),
        floor: percentile_ms(&ours, 50.0),
        floor_is: "our own rendering of the same combination, values to objects",
        target: Target::AtLeastTimesFloor(TIMES_FASTER),
    }])
}

fn once(values: &Values) -> Result<Duration> {
    let begun = Instant::now();
    let rendered = render(&Release::install("my-valkey", "default"), values)?;
    let took = begun.elapsed();
    drop(rendered);
    Ok(took)
}
