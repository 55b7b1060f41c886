//! `report.json`, and the writing of report files: each is complete or absent.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::model::{RunReport, SCHEMA_VERSION};

/// The record's file name within a report's folder.
pub const REPORT_FILE: &str = "report.json";

/// Reasons why a report could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportFileError {
    /// The file or its folder cannot be written or read.
    #[error("report {} cannot be accessed", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The folder for the report is not writable, as a check before the run found.
    #[error(
        "the report cannot be written below {}: choose another folder with --report, or make this one writable",
        path.display()
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another run writes to the folder.
    #[error(
        "another run is writing to {}: wait for its end, or choose another folder with --report",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The file ends in the middle.
    #[error(
        "report {0} is truncated: the program that wrote it was interrupted; `{2} report recover {1}` makes a report \
         of the finished trials",
        path.display(),
        path.parent().unwrap_or(Path::new(".")).display(),
        settings::program()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
    },
    /// The file is from a later version of this project.
    #[error(
        "report {} has schema {schema}, and this program reads up to {SCHEMA_VERSION}: read it with the version that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: u64,
    },
    /// The file's content is not a report.
    #[error("report {} is not a report", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

impl ReportFileError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Writes `report` into `folder`, which is made if need be, and returns the file's path.
pub fn write(report: &RunReport, folder: &Path) -> Result<PathBuf, ReportFileError> {
    let path = folder.join(REPORT_FILE);
    write_whole(&path, |out| write_json(report, out))?;
    Ok(path)
}

/// The empty list of a report without trials, at the outermost level. JSON escapes line breaks in
/// text, so no text matches.
const NO_TRIALS: &str = "\n  \"trials\": []";

/// Writes the report as JSON: the run pretty-printed, and each trial on its own line. Only one
/// trial's text is in memory at a time.
pub fn write_json(report: &RunReport, out: &mut dyn Write) -> io::Result<()> {
    let run = serde_json::to_string_pretty(&report.without_trials())?;
    let (before, after) = run
        .split_once(NO_TRIALS)
        .expect("a report without trials has an empty list of them");
    write!(out, "{before}\n  \"trials\": [")?;
    // The buffer is a `Vec<u8>` because serde_json's code for it is shared with the dependencies.
    // These are optimised even in a development build; this crate is not.
    let mut line: Vec<u8> = Vec::new();
    for (index, trial) in report.trials.iter().enumerate() {
        line.clear();
        line.extend_from_slice(if index == 0 { b"\n    " } else { b",\n    " });
        serde_json::to_writer(&mut line, trial)?;
        out.write_all(&line)?;
    }
    let end = if report.trials.is_empty() { "" } else { "\n  " };
    writeln!(out, "{end}]{after}")
}

/// Writes a file through `content`. A full disk leaves the previous file or none, never half of the
/// new one.
pub fn write_whole(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), ReportFileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.draft"));
    let written = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut out = BufWriter::new(File::create(&draft)?);
        content(&mut out)?;
        out.into_inner()?.sync_all()?;
        fs::rename(&draft, path)
    };
    written().map_err(|source| {
        // An unfinished draft is useless, and a failure to remove it has no effect.
        let _ = fs::remove_file(&draft);
        ReportFileError::io(path, source)
    })
}

/// Reads a report from its file or its folder.
pub fn read(path: &Path) -> Result<RunReport, ReportFileError> {
    let path = if path.is_dir() {
        path.join(REPORT_FILE)
    } else {
        path.to_owned()
    };
    let text = fs::read_to_string(&path).map_err(|source| ReportFileError::io(&path, source))?;
    parse(&text, &path)
}

fn parse(text: &str, path: &Path) -> Result<RunReport, ReportFileError> {
    /// Every version of the schema has this field.
    #[derive(serde::Deserialize)]
    struct Versioned {
        schema: u64,
    }
    let content = |source: serde_json::Error| match source.is_eof() {
        true => ReportFileError::Truncated {
            path: path.to_owned(),
        },
        false => ReportFileError::Content {
            path: path.to_owned(),
            source,
        },
    };
    let versioned: Versioned = serde_json::from_str(text).map_err(content)?;
    if versioned.schema > u64::from(SCHEMA_VERSION) {
        return Err(ReportFileError::Newer {
            path: path.to_owned(),
            schema: versioned.schema,
        });
    }
    serde_json::from_str(text).map_err(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Outcome;
    use crate::model::samples::{report, trial};

    #[test]
    fn a_written_report_is_read_from_its_file_or_its_folder() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let written = report(vec![trial("s", "a", "cluster", "rpm", Outcome::Passed)]);
        let path = write(&written, folder.path()).expect("written");
        assert_eq!(read(&path).expect("read"), written);
        assert_eq!(read(folder.path()).expect("read"), written);
        let files: Vec<_> = fs::read_dir(folder.path()).expect("listed").collect();
        assert_eq!(files.len(), 1, "no draft is left: {files:?}");
    }

    #[test]
    fn what_is_written_trial_by_trial_is_the_report() {
        for names in [&[][..], &["a"], &["a", "b"]] {
            let trials = names
                .iter()
                .map(|name| trial("s", name, "cluster", "rpm", Outcome::Passed));
            let written = report(trials.collect());
            let mut text = Vec::new();
            write_json(&written, &mut text).expect("memory can be written to");
            let read: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            assert_eq!(read, serde_json::to_value(&written).expect("JSON"));
        }
    }

    #[test]
    fn a_report_cut_off_anywhere_is_said_to_end_in_the_middle() {
        let text = serde_json::to_string_pretty(&report(vec![])).expect("JSON");
        for length in [0, 1, text.len() / 2, text.len() - 1] {
            let error = parse(&text[..length], Path::new("runs/r1/report.json")).expect_err("cut off");
            let said = error.to_string();
            assert!(said.contains("is truncated"), "{length}: {said}");
            assert!(said.contains("report recover runs/r1`"), "{said}");
        }
    }

    #[test]
    fn a_newer_schema_is_named_and_anything_else_is_no_report() {
        let mut newer = serde_json::to_value(report(vec![])).expect("JSON");
        newer["schema"] = 2.into();
        newer["verdict"] = "excellent".into();
        let error = parse(&newer.to_string(), Path::new("r.json")).expect_err("newer");
        assert!(
            error
                .to_string()
                .contains("has schema 2, and this program reads up to 1"),
            "{error}"
        );
        let error = parse("{\"a\": 1}", Path::new("r.json")).expect_err("no report");
        assert_eq!(error.to_string(), "report r.json is not a report");
    }

    #[test]
    fn a_full_disk_is_named_and_leaves_the_older_file_whole() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("report.json");
        fs::write(&path, "older").expect("written");
        let full = |_: &mut dyn Write| Err(io::Error::from(io::ErrorKind::StorageFull));
        let error = write_whole(&path, full).expect_err("the disk is full");
        assert!(
            error.to_string().contains("report.json cannot be accessed"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).expect("read"), "older");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }
}
