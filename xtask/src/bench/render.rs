//! Time of rendering a combination from values to objects, next to `helm template` of an equivalent
//! chart.

use std::time::{Duration, Instant};

use ::manifests::{Mode, Release, Values, Variant, render};
use anyhow::{Context, Result};
use harness::release::chart::{Chart, ChartError, Helm, UserValues};

use super::stats::percentile_ms;
use super::table::{Figure, Goal, Unit};
use crate::checkout;

/// Number of repetitions of each: `helm` as a process, ours as a function.
const PROCESSES: usize = 10;
const CALLS: usize = 300;

/// The factor at which a suite can render as often as it likes.
const TIMES_FASTER: f64 = 200.0;

/// The chart that renders equal objects, as `cargo xtask compare` confirms.
const CHART: &str = "scenarios/testdata/chart";

/// Takes the measurement. Without `helm`, it is skipped with a note.
pub(super) async fn measure() -> Result<Vec<Figure>> {
    let Ok(checkout) = checkout::root() else {
        eprintln!("note: outside a checkout of this project, rendering is not measured");
        return Ok(Vec::new());
    };
    let helm = match Helm::find().await {
        Err(ChartError::Missing) => {
            eprintln!("note: without helm on PATH, rendering is not measured");
            return Ok(Vec::new());
        }
        found => found.context("helm cannot be used")?,
    };
    let chart = Chart::open(&checkout.join(CHART), helm, UserValues::default()).await;
    let chart = chart.context("the example chart")?;
    let defaults = chart.combination(Mode::Cluster, Variant::Hardened);
    let mut values = defaults.clone();
    "placeholder-not-a-secret".clone_into(&mut values.auth.password);
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..PROCESSES {
        let begun = Instant::now();
        chart
            .objects("my-valkey", "default", &defaults, &values)
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
        target: Goal::AtLeastTimesFloor(TIMES_FASTER),
    }])
}

fn once(values: &Values) -> Result<Duration> {
    let begun = Instant::now();
    let rendered = render(&Release::install("my-valkey", "default"), values)?;
    let took = begun.elapsed();
    drop(rendered);
    Ok(took)
}
