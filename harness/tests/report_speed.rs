//! Writing a report costs next to nothing: a thousand trials in every format within a second, and memory stays flat.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::report::{RunReport, file, outputs};

/// For every format together.
const BUDGET: Duration = Duration::from_secs(1);

/// Programs that are not optimised are several times slower; what is shipped is.
const UNOPTIMISED: u32 = if cfg!(debug_assertions) { 5 } else { 1 };

/// What writing may need beside the report itself, in KiB: the JUnit tree and the Markdown, never a page of a thousand trials.
const MEMORY_KIB: u64 = 32 * 1024;

fn thousand_trials() -> RunReport {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/broken-run.json");
    let mut report = file::read(&path).expect("a report");
    let some = report.trials.clone();
    report.trials = some.iter().cycle().take(1000).cloned().collect();
    for (number, trial) in report.trials.iter_mut().enumerate() {
        trial.scenario = format!("{}_{number}", trial.scenario);
        trial.name = format!("{}::{}", trial.story(), trial.combination());
    }
    report
}

/// The most memory that this process has had since it was asked to start anew, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("Linux says so");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

#[test]
fn a_thousand_trials_are_written_within_a_second_and_in_flat_memory() {
    let report = thousand_trials();
    let folder = tempfile::tempdir().expect("a temporary directory");
    std::fs::write("/proc/self/clear_refs", "5").expect("a process may forget its own peak");
    let before = peak();
    let started = Instant::now();
    outputs::write_all(&report, folder.path()).expect("written");
    let took = started.elapsed();
    let grown = peak().saturating_sub(before);
    println!("{took:?}, {grown} KiB");
    assert!(grown < MEMORY_KIB, "{grown} KiB");
    assert!(took < BUDGET * UNOPTIMISED, "{took:?}");
}
