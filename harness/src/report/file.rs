//! `report.json`: the record on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::model::RunReport;

/// The record's file name within a report's folder.
pub const REPORT_FILE: &str = "report.json";

/// Why a report could not be written or read.
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

/// Writes `report` into `folder`, which is made if need be, and returns the file's path. The file is complete or absent,
/// never half written.
pub fn write(report: &RunReport, folder: &Path) -> Result<PathBuf, ReportFileError> {
    let path = folder.join(REPORT_FILE);
    let io = |source| ReportFileError::Io {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(folder).map_err(io)?;
    let mut text = serde_json::to_string_pretty(report).map_err(|source| ReportFileError::Content {
        path: path.clone(),
        source,
    })?;
    text.push('\n');
    let draft = folder.join(format!(".{REPORT_FILE}.draft"));
    fs::write(&draft, text).map_err(io)?;
    fs::rename(&draft, &path).map_err(io)?;
    Ok(path)
}

/// Reads a report back.
pub fn read(path: &Path) -> Result<RunReport, ReportFileError> {
    let text = fs::read_to_string(path).map_err(|source| ReportFileError::Io {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| ReportFileError::Content {
        path: path.to_owned(),
        source,
    })
}
