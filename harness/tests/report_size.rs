//! A thousand trials: every format is written as it is made, and none is larger than its trials explain.
//!
//! How long it takes is a row of `cargo xtask bench`: a busy machine must not fail a test.

use std::io::{self, Write};
use std::path::Path;

use harness::report::{RunReport, file, html, junit, markdown};

/// Writes a report in one format.
type Format = fn(&RunReport, &mut dyn Write) -> io::Result<()>;

const FORMATS: [(&str, Format); 5] = [
    ("json", file::write_json),
    ("html", html::write),
    ("junit", junit::write),
    ("markdown", markdown::write_summary),
    ("release note", markdown::write_release_note),
];

/// How much of a text may be in memory: a suite of a thousand failures in JUnit, or a summary as long as GitHub takes.
const HELD: usize = 1024 * 1024;

/// Counts what is written, and the largest piece that came at once.
#[derive(Default)]
struct Counter {
    written: usize,
    largest: usize,
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written += bytes.len();
        self.largest = self.largest.max(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// So many of the trials of a real run with failures, each under a name of its own.
fn run_of(trials: usize) -> RunReport {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/broken-run.json");
    let mut report = file::read(&path).expect("a report");
    let some = std::mem::take(&mut report.trials);
    report.trials = some.iter().cycle().take(trials).cloned().collect();
    for (number, trial) in report.trials.iter_mut().enumerate() {
        trial.scenario = format!("{}_{}", trial.scenario, number / some.len());
        trial.name = format!("{}::{}", trial.story(), trial.combination());
    }
    report
}

fn written(format: Format, trials: usize) -> Counter {
    let mut out = Counter::default();
    format(&run_of(trials), &mut out).expect("counting does not fail");
    out
}

#[test]
fn a_report_grows_as_its_trials_do() {
    for (name, format) in FORMATS {
        let (some, many) = (written(format, 64).written, written(format, 1024).written);
        // Sixteen times the trials; what a page says of the run as a whole is said once, and a page of many trials leaves
        // logs out.
        assert!(
            many <= some * 17,
            "{name}: {some} bytes for 64 trials, {many} for 1024"
        );
    }
}

#[test]
fn no_format_holds_a_thousand_trials_in_memory() {
    for (name, format) in FORMATS {
        let Counter { written, largest } = written(format, 1000);
        assert!(
            largest <= HELD,
            "{name}: {largest} of {written} bytes were written at once"
        );
    }
}
