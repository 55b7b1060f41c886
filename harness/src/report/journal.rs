//! `journal.jsonl`: what has finished, written as it finishes, so that a killed run is not a lost one.
//!
//! One JSON object a line, appended and never rewritten: how the run began, what it ran on, each trial, and that it ended.
//! [`recover`] makes a partial report of it. A run that comes to its end writes its report itself.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::event::{Event, Reporter};
use super::file::{REPORT_FILE, ReportFileError};
use super::model::{Outcome, RunReport, RunVerdict, TrialReport};
use crate::cluster::Provenance;

/// The journal's file name within a report's folder.
pub const JOURNAL_FILE: &str = "journal.jsonl";

/// One line, as it is read.
#[derive(Debug, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
enum Line {
    /// The run began: a report without trials, and the names of those that were selected.
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

/// The same as it is written: nothing is copied for it.
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
    warnings: Box<dyn Write + Send>,
}

/// Why a run cannot be recovered.
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
    /// The run came to its end.
    #[error("the run of journal {} came to its end: its report is {}", path.display(), report.display())]
    Complete {
        /// The journal.
        path: PathBuf,
        /// The report.
        report: PathBuf,
    },
    /// A line is not one of a journal's.
    #[error("line {line} of journal {} is not a journal's", path.display())]
    Content {
        /// The journal.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The run was killed before the first line was written.
    #[error("journal {} has no beginning: the run was killed before it had one", path.display())]
    Empty {
        /// The journal.
        path: PathBuf,
    },
}

impl Journal {
    /// Makes `folder` and begins the journal of a run that is to be `report`, of which `selected` are the trials. What makes
    /// this fail would lose the report at the run's end: it is called before the run. Later failures are told to
    /// `warnings`, once.
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
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .open(&path)?;
            append(&mut file, &line)?;
            Ok(file)
        };
        match open() {
            Ok(file) => Ok(Self {
                path,
                file: Some(file),
                warnings,
            }),
            Err(source) => Err(ReportFileError::Folder {
                path: folder.to_owned(),
                source,
            }),
        }
    }

    /// Appends a line. The run goes on without a journal when the disk is full: its report may still find room.
    fn append(&mut self, line: &Entry<'_>) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = append(file, line) {
            self.file = None;
            let _ = writeln!(
                self.warnings,
                "warning: journal {} cannot be written any more ({error}): if the run is killed, what finishes from now on is lost",
                self.path.display()
            );
        }
    }
}

/// One write a line: a line is whole, or the last of the file.
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

/// Makes a partial report of what the journal in `folder` has. It is inconclusive, whatever had finished.
pub fn recover(folder: &Path) -> Result<RunReport, RecoverError> {
    let path = folder.join(JOURNAL_FILE);
    let text = fs::read_to_string(&path).map_err(|source| RecoverError::Io {
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
    let (report, selected) = report.ok_or(RecoverError::Empty { path })?;
    Ok(partial(report, &selected))
}

/// Every whole line. Only the last one may be cut off.
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

/// Puts the trials into the order of their selection, adds those that had not finished, and says what that makes.
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
    report.interrupted = true;
    report.verdict = RunVerdict::Inconclusive;
    report.because = format!("the run was cut off after {count} of {} trials", selected.len());
    if failed > 0 {
        report.because.push_str(&format!(", of which {failed} failed"));
    }
    report
}

fn unfinished(name: &str) -> TrialReport {
    let mut parts = name.split("::");
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let (suite, scenario, combination) = (next(), next(), next());
    let (mode, variant) = combination.split_once('-').unwrap_or((&combination, ""));
    let outcome = Outcome::Skipped {
        reason: "the run was cut off before its end".to_owned(),
    };
    TrialReport {
        name: name.to_owned(),
        ..TrialReport::blank(&suite, &scenario, mode, variant, outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::report::model::tests_support::{report, trial};

    /// Where the journal's warnings go.
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
            "the run was cut off after 2 of 3 trials, of which 1 failed"
        );
        let words: Vec<_> = recovered
            .trials
            .iter()
            .map(|trial| trial.outcome.word())
            .collect();
        assert_eq!(words, ["pass", "skip", "FAIL"]);
        assert_eq!(
            (
                recovered.trials[1].scenario.as_str(),
                recovered.trials[1].mode.as_str()
            ),
            ("b", "cluster")
        );
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
                "the run was cut off after 1 of 3 trials, of which 1 failed"
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
        assert!(error.to_string().contains("came to its end"), "{error}");
        let error = recover(Path::new("/nowhere")).expect_err("no journal");
        assert!(
            error
                .to_string()
                .contains("/nowhere/journal.jsonl cannot be read"),
            "{error}"
        );
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
