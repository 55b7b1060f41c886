//! Reports of a thousand trials. Every format is streamed, and its size is proportional to its
//! trials.
//!
//! Speed is a row of `cargo xtask bench`, because a busy machine must not fail a test.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

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

/// Additional memory that writing a thousand trials may take. Their JSON alone has some 38 MiB. The
/// limit covers one trial, one JUnit suite, a summary of GitHub's maximum length, and the
/// allocator.
const ROOM: usize = 8 * 1024 * 1024;

/// Held by the running test, because memory is measured for the process.
static ALONE: Mutex<()> = Mutex::new(());

/// Counts what is written.
#[derive(Default)]
struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a field of this process's status, in bytes.
fn memory(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .expect("it is there");
    let kibibytes = line
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse::<usize>().ok());
    kibibytes.expect("a number of kB") * 1024
}

/// Returns the peak memory during `act`, above the memory before it.
fn peak(act: impl FnOnce()) -> usize {
    // Resets the peak of memory use (proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "5").expect("a process may do that to itself");
    let before = memory("VmRSS:");
    act();
    memory("VmHWM:").saturating_sub(before)
}

/// Returns a run with `trials` trials of a real run with failures, each under its own name.
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

fn written(format: Format, report: &RunReport) -> usize {
    let mut out = Counter::default();
    format(report, &mut out).expect("counting does not fail");
    out.0
}

#[test]
fn a_report_grows_as_its_trials_do() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (some, many) = (run_of(64), run_of(1024));
    for (name, format) in FORMATS {
        let (some, many) = (written(format, &some), written(format, &many));
        // There are sixteen times the trials. A page has the parts about the whole run only once,
        // and leaves logs out for many trials.
        assert!(
            many <= some * 17,
            "{name}: {some} bytes for 64 trials, {many} for 1024"
        );
    }
}

#[test]
fn no_format_holds_a_thousand_trials_in_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let report = run_of(1000);
    for (name, format) in FORMATS {
        let mut size = 0;
        let peak = peak(|| size = written(format, &report));
        assert!(
            peak <= ROOM,
            "{name}: {peak} bytes of memory for {size} bytes of text"
        );
    }
    let text = || drop(serde_json::to_vec(&report).expect("JSON"));
    assert!(
        peak(text) > ROOM,
        "a text that is held as a whole would be noticed"
    );
}
