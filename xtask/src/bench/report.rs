//! Time to write the report of a thousand trials in every format. The floor is a single
//! serialisation to JSON.

use std::time::Instant;

use anyhow::{Context, Result};
use harness::report::{RunReport, file, outputs};

use super::stats::percentile_ms;
use super::table::{Figure, Goal, Unit};

/// The report of a real run with failed trials.
const RUN: &str = include_str!("../../../harness/tests/report/broken-run.json");

/// Number of trials: many more than the suite has.
const TRIALS: usize = 1000;

/// Number of repetitions.
const ROUNDS: usize = 5;

/// A delay that nobody notices when waiting for the verdict.
const TARGET_MS: f64 = 1000.0;

/// Takes the measurement.
pub(super) fn measure() -> Result<Vec<Figure>> {
    let report = thousand()?;
    let folder = tempfile::tempdir().context("failed to create a temporary folder")?;
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
        target: Goal::AtMost(TARGET_MS),
    }])
}

/// Repeats the trials of the run under other names.
fn thousand() -> Result<RunReport> {
    let folder = tempfile::tempdir().context("failed to create a temporary folder")?;
    let path = folder.path().join("report.json");
    std::fs::write(&path, RUN).context("failed to write the run to repeat")?;
    let mut report = file::read(&path)?;
    let some = std::mem::take(&mut report.trials);
    report.trials = some.iter().cycle().take(TRIALS).cloned().collect();
    for (number, trial) in report.trials.iter_mut().enumerate() {
        trial.scenario = format!("{}_{}", trial.scenario, number / some.len());
        trial.name = format!("{}::{}", trial.story(), trial.combination());
    }
    Ok(report)
}
