//! How long it takes to write the report of a thousand trials in every format, beside serialising its JSON once.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use harness::report::{RunReport, file, outputs};

use super::stats::percentile_ms;
use super::table::{Figure, Target, Unit};

/// A real run, with trials that failed and all that is told of them.
const RUN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../harness/tests/report/broken-run.json"
);

/// Many more than the suite has.
const TRIALS: usize = 1000;

/// How often it is written.
const ROUNDS: usize = 5;

/// A person who waits for the verdict does not notice it.
const TARGET_MS: f64 = 1000.0;

/// Takes the measurement.
pub(super) fn measure() -> Result<Vec<Figure>> {
    let report = thousand()?;
    let folder = tempfile::tempdir().context("there is no temporary folder")?;
    let (mut written, mut serialised) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        outputs::write_all(&report, folder.path())?;
        written.push(begun.elapsed());
        let begun = Instant::now();
        let text = serde_json::to_vec(&report).context("a report is plain JSON")?;
        serialised.push(begun.elapsed());
        drop(text);
    }
    Ok(vec![Figure {
        name: "report of 1000 trials",
        unit: Unit::Milliseconds,
        measured: percentile_ms(&written, 50.0),
        floor: percentile_ms(&serialised, 50.0),
        floor_is: "the same report serialised once, into memory",
        target: Target::AtMost(TARGET_MS),
    }])
}

/// The trials of the run, again and again under other names.
fn thousand() -> Result<RunReport> {
    let mut report = file::read(Path::new(RUN))?;
    let some = std::mem::take(&mut report.trials);
    report.trials = some.iter().cycle().take(TRIALS).cloned().collect();
    for (number, trial) in report.trials.iter_mut().enumerate() {
        trial.scenario = format!("{}_{}", trial.scenario, number / some.len());
        trial.name = format!("{}::{}", trial.story(), trial.combination());
    }
    Ok(report)
}
