//! `journal.jsonl`: results written as they arrive, so that a killed run is not lost.
//!
//! Each line is one JSON object, appended and never rewritten. The lines are the run's beginning,
//! its cluster, each trial, and its end. From a journal, [`recover`] makes a partial report. A run
//! that ends normally writes its own report.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::event::{Event, Reporter};
use super::file::{REPORT_FILE, ReportFileError};
use super::model::{Outcome, RunReport, RunVerdict, TrialReport};
use super::verdict;
use super::{finding, outputs};
use clusters::Provenance;

/// The journal's file name within a report's folder.
pub const JOURNAL_FILE: &str = "journal.jsonl";

/// One line, for reading.
#[derive(Debug, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
enum Line {
    /// The run began: a report without trials, and the names of the selected trials.
    Began {
        report: Box<RunReport>,
        selected: Vec<String>,
    },
    /// The cluster answered.
    Cluster { provenance: Box<Provenance> },
    /// A trial ended.
    Trial { report: Box<TrialReport> },
    /// The run ended, and its report was written.
    Ended,
}

/// One line, for writing. It borrows all data.
#[derive(Debug, Serialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
enum Entry<'a> {
    Began {
        report: &'a RunReport,
        selected: &'a [String],
    },
    Cluster {
        provenance: &'a Provenance,
    },
    Trial {
        report: &'a TrialReport,
    },
    Ended,
}

/// Writes the journal of one run.
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
    /// Holds the lock while the run goes on.
    _lock: File,
    warnings: Box<dyn Write + Send>,
}

/// Reasons why a run cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// There is no journal, or it cannot be read.
    #[error("journal {} cannot be read: a run that was killed left one in its report's folder", path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The run is still going.
    #[error("the run of journal {} is still going: wait for its end, or end it first", path.display())]
    Running {
        /// The journal.
        path: PathBuf,
    },
    /// The run ended normally.
    #[error("the run of journal {} has finished: its report is {}", path.display(), report.display())]
    Complete {
        /// The journal.
        path: PathBuf,
        /// The report.
        report: PathBuf,
    },
    /// A line is not a journal entry.
    #[error("line {line} of journal {} is not a journal entry", path.display())]
    Content {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The run was killed before the first line was written.
    #[error("journal {} has no header: the run was killed before it wrote one", path.display())]
    Empty {
        /// The journal.
        path: PathBuf,
    },
}

impl Journal {
    /// Creates `folder` and begins the journal of the run of `report`, with the `selected` trials.
    /// An earlier run's report and evidence in `folder` are removed. Called before the run, because
    /// a failure here would also lose the report at its end. Reports later failures to `warnings`,
    /// once.
    pub fn begin(
        folder: &Path,
        report: &RunReport,
        selected: &[String],
        warnings: Box<dyn Write + Send>,
    ) -> Result<Self, ReportFileError> {
        let path = folder.join(JOURNAL_FILE);
        let line = Entry::Began { report, selected };
        let open = || -> io::Result<File> {
            fs::create_dir_all(folder)?;
            // An existing file may belong to another run.
            OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .open(&path)
        };
        let failed = |source| ReportFileError::Folder {
            path: folder.to_owned(),
            source,
        };
        let mut file = open().map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ReportFileError::InUse {
                    path: folder.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let lock = file.try_clone().map_err(failed)?;
        let is_reused = file.metadata().map_err(failed)?.len() > 0;
        if is_reused {
            outputs::remove(folder).map_err(failed)?;
        }
        file.set_len(0)
            .and_then(|()| append(&mut file, &line))
            .map_err(failed)?;
        Ok(Self {
            path,
            file: Some(file),
            _lock: lock,
            warnings,
        })
    }

    /// Appends a line. When the disk is full, the run goes on without a journal: its report may
    /// still find room.
    fn append(&mut self, line: &Entry<'_>) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = append(file, line) {
            self.file = None;
            let _ = writeln!(
                self.warnings,
                "warning: journal {} cannot be written any more ({error}): if the run is killed, trials that finish from now on are lost",
                self.path.display()
            );
        }
    }
}

/// Appends a line with one write, so that only the last line can be incomplete.
fn append(file: &mut File, line: &Entry<'_>) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)
}

impl Reporter for Journal {
    fn on(&mut self, event: &Event) {
        match event {
            Event::ClusterReady { provenance, .. } => self.append(&Entry::Cluster { provenance }),
            Event::TrialFinished { report } => self.append(&Entry::Trial { report }),
            Event::RunFinished { .. } => self.append(&Entry::Ended),
            Event::RunStarted { .. }
            | Event::Note { .. }
            | Event::TrialStarted { .. }
            | Event::StepStarted { .. }
            | Event::Interrupted => {}
        }
    }
}

/// Makes a partial report from the journal in `folder`. The report is inconclusive, whatever has
/// finished.
pub fn recover(folder: &Path) -> Result<RunReport, RecoverError> {
    let path = folder.join(JOURNAL_FILE);
    let read = || -> io::Result<_> {
        let mut file = File::open(&path)?;
        let running = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok((running, text))
    };
    let (running, text) = read().map_err(|source| RecoverError::Io {
        path: path.clone(),
        source,
    })?;
    let mut report: Option<(RunReport, Vec<String>)> = None;
    for line in lines(&text, &path)? {
        match (line, &mut report) {
            (
                Line::Began {
                    report: began,
                    selected,
                },
                _,
            ) => report = Some((*began, selected)),
            (_, None) => {}
            (Line::Cluster { provenance }, Some((report, _))) => report.provenance = *provenance,
            (Line::Trial { report: trial }, Some((report, _))) => report.trials.push(*trial),
            (Line::Ended, Some(_)) => {
                let report = folder.join(REPORT_FILE);
                return Err(RecoverError::Complete { path, report });
            }
        }
    }
    if running {
        return Err(RecoverError::Running { path });
    }
    let (report, selected) = report.ok_or(RecoverError::Empty { path })?;
    Ok(partial(report, &selected))
}

/// Returns every complete line. Only the last one may be cut off.
fn lines(text: &str, path: &Path) -> Result<Vec<Line>, RecoverError> {
    let mut parsed = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str(line) {
            Ok(line) => parsed.push(line),
            Err(_) if !line.ends_with('\n') => {}
            Err(source) => {
                return Err(RecoverError::Content {
                    path: path.to_owned(),
                    line: index + 1,
                    source,
                });
            }
        }
    }
    Ok(parsed)
}

/// Orders the trials as selected, adds the unfinished ones, and derives the verdict.
fn partial(mut report: RunReport, selected: &[String]) -> RunReport {
    let mut finished: BTreeMap<String, TrialReport> = report
        .trials
        .drain(..)
        .map(|trial| (trial.name.clone(), trial))
        .collect();
    let (count, failed) = (
        finished.len(),
        finished
            .values()
            .filter(|trial| trial.outcome.is_failure())
            .count(),
    );
    report.duration_ms = finished
        .values()
        .filter_map(|trial| Some((trial.record.started?, trial.duration_ms)))
        .filter_map(|(began, took)| {
            let since = began.duration_since(report.started).as_millis();
            Some(u64::try_from(since).ok()? + took)
        })
        .max()
        .unwrap_or(0);
    let trials = selected
        .iter()
        .map(|name| finished.remove(name).unwrap_or_else(|| unfinished(name)));
    report.trials = trials.collect();
    report.findings = finding::fold(&mut report.trials);
    report.interrupted = true;
    report.verdict = RunVerdict::Inconclusive;
    report.because = format!(
        "the run was cut off after {count} of {}",
        verdict::trials(selected.len())
    );
    if failed > 0 {
        report.because.push_str(&format!(", {failed} of them failed"));
    }
    report
}

fn unfinished(name: &str) -> TrialReport {
    // A scenario's name may have several parts: `conformance::parameter::mode::standalone-rpm`.
    let (suite, rest) = name.split_once("::").unwrap_or((name, ""));
    let (scenario, combination) = rest.rsplit_once("::").unwrap_or((rest, ""));
    let (mode, variant) = combination.split_once('-').unwrap_or((combination, ""));
    let outcome = Outcome::Interrupted {
        reason: "the run was cut off before the end of this trial".to_owned(),
    };
    TrialReport {
        name: name.to_owned(),
        ..TrialReport::blank(suite, scenario, mode, variant, outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::finding::tests::{defect, failed};
    use crate::model::samples::{report, trial};

    /// Collects the journal's warnings.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Write for Said {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic while locked").write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Said {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic while locked").clone()).expect("text")
        }
    }

    fn finished(name: &str, outcome: Outcome) -> Event {
        Event::TrialFinished {
            report: Box::new(trial("s", name, "cluster", "rpm", outcome)),
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names
            .iter()
            .map(|name| format!("s::{name}::cluster-rpm"))
            .collect()
    }

    fn killed_run(folder: &Path) {
        let selected = names(&["a", "b", "c"]);
        let mut journal =
            Journal::begin(folder, &report(vec![]), &selected, Box::new(io::sink())).expect("writable");
        let failed = Outcome::Failed {
            cause: None,
            message: "x".into(),
        };
        journal.on(&finished("c", failed));
        journal.on(&finished("a", Outcome::Passed));
    }

    #[test]
    fn what_had_finished_is_recovered_and_never_conclusive() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        killed_run(folder.path());
        let recovered = recover(folder.path()).expect("recovered");
        assert_eq!(recovered.verdict, RunVerdict::Inconclusive);
        assert_eq!(
            recovered.because,
            "the run was cut off after 2 of 3 trials, 1 of them failed"
        );
        let words: Vec<_> = recovered
            .trials
            .iter()
            .map(|trial| trial.outcome.word())
            .collect();
        assert_eq!(words, ["pass", "interrupted", "FAIL"]);
        assert_eq!(
            (
                recovered.trials[1].scenario.as_str(),
                recovered.trials[1].mode.as_str()
            ),
            ("b", "cluster")
        );
    }

    #[test]
    fn a_folder_that_is_used_again_keeps_nothing_of_the_earlier_run() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str| folder.path().join(name);
        killed_run(folder.path());
        outputs::write_all(&report(vec![]), folder.path()).expect("writable");
        let evidence = file(outputs::EVIDENCE_FOLDER).join("trial/ledger");
        fs::create_dir_all(&evidence).expect("writable");
        fs::write(file("notes.txt"), "of the user").expect("writable");
        killed_run(folder.path());
        let left = fs::read_dir(folder.path()).expect("read");
        let mut left: Vec<_> = left.map(|entry| entry.expect("read").file_name()).collect();
        left.sort();
        assert_eq!(left, [JOURNAL_FILE, "notes.txt"]);
    }

    #[test]
    fn evidence_that_no_run_wrote_is_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let of_the_user = folder.path().join(outputs::EVIDENCE_FOLDER);
        fs::create_dir(&of_the_user).expect("writable");
        killed_run(folder.path());
        assert!(of_the_user.is_dir());
    }

    #[test]
    fn a_scenario_of_several_parts_keeps_them() {
        let trial = unfinished("conformance::parameter::image.tag::standalone-rpm");
        let parts = [&trial.suite, &trial.scenario, &trial.mode, &trial.variant];
        assert_eq!(
            parts,
            ["conformance", "parameter::image.tag", "standalone", "rpm"]
        );
    }

    #[test]
    fn the_defects_of_finished_trials_are_findings() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let selected = names(&["a", "b"]);
        let mut journal = Journal::begin(folder.path(), &report(vec![]), &selected, Box::new(io::sink()))
            .expect("writable");
        let broken = failed("s", "a", "check", vec![defect("no_slots", "balance")]);
        journal.on(&Event::TrialFinished {
            report: Box::new(broken),
        });
        drop(journal);
        let recovered = recover(folder.path()).expect("recovered");
        let found: Vec<_> = recovered
            .findings
            .iter()
            .map(|finding| (finding.id.as_str(), finding.trials.len()))
            .collect();
        assert_eq!(found, [("no_slots", 1)]);
    }

    #[test]
    fn a_last_line_that_is_cut_off_anywhere_costs_that_line_only() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        killed_run(folder.path());
        let path = folder.path().join(JOURNAL_FILE);
        let whole = fs::read_to_string(&path).expect("read");
        let last = whole.trim_end().rfind('\n').expect("lines") + 1;
        for end in [last + 1, last + 40, whole.len() - 2] {
            fs::write(&path, &whole[..end]).expect("written");
            let recovered = recover(folder.path()).expect("recovered");
            assert_eq!(
                recovered.because,
                "the run was cut off after 1 of 3 trials, 1 of them failed"
            );
        }
        fs::write(&path, whole.replacen("{\"entry\"", "{entry", 1)).expect("written");
        let error = recover(folder.path()).expect_err("damaged");
        assert!(error.to_string().contains("line 1 of journal"), "{error}");
    }

    #[test]
    fn a_run_that_ended_has_nothing_to_recover() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut journal =
            Journal::begin(folder.path(), &report(vec![]), &[], Box::new(io::sink())).expect("writable");
        journal.on(&Event::RunFinished {
            report: Box::new(report(vec![])),
            folder: folder.path().to_owned(),
            kept: None,
        });
        let error = recover(folder.path()).expect_err("complete");
        assert!(error.to_string().contains("has finished"), "{error}");
        let error = recover(Path::new("/nowhere")).expect_err("no journal");
        assert!(
            error
                .to_string()
                .contains("/nowhere/journal.jsonl cannot be read"),
            "{error}"
        );
    }

    #[test]
    fn a_running_journal_refuses_a_second_run_and_recovery() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let begin = || {
            Journal::begin(
                folder.path(),
                &report(vec![]),
                &names(&["a"]),
                Box::new(io::sink()),
            )
        };
        let first = begin().expect("writable");
        let error = begin().err().expect("in use").to_string();
        assert!(
            error.contains("another run") && error.contains("--report"),
            "{error}"
        );
        let error = recover(folder.path()).expect_err("it is running").to_string();
        assert!(error.contains("still going"), "{error}");
        drop(first);
        assert_eq!(recover(folder.path()).expect("recovered").trials.len(), 1);
        begin().expect("free again");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_found_before_the_run() {
        let below_a_file = Path::new("/dev/null/reports/r1");
        let begun = Journal::begin(below_a_file, &report(vec![]), &[], Box::new(io::sink()));
        let error = begun.err().expect("not a folder").to_string();
        assert!(
            error.contains("/dev/null/reports/r1") && error.contains("--report"),
            "{error}"
        );
    }

    #[test]
    fn a_disk_that_fills_up_is_told_once_and_the_run_goes_on() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let said = Said::default();
        let mut journal =
            Journal::begin(folder.path(), &report(vec![]), &[], Box::new(said.clone())).expect("writable");
        journal.file = Some(
            OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .expect("Linux has it"),
        );
        journal.on(&finished("a", Outcome::Passed));
        journal.on(&finished("b", Outcome::Passed));
        let text = said.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("journal.jsonl") && text.contains("No space left"),
            "{text}"
        );
    }
}
