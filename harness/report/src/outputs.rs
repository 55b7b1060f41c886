//! Writes the report of a finished run in every format, side by side.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::file::{self, ReportFileError, write_whole};
use super::model::RunReport;
use super::{html, junit, markdown};

/// Writes a report in one format.
type Format = fn(&RunReport, &mut dyn Write) -> io::Result<()>;

/// The folder of the failed trials' evidence, below that of the report.
pub const EVIDENCE_FOLDER: &str = "evidence";

/// All formats besides `report.json`.
const FORMATS: [(&str, Format); 4] = [
    (html::HTML_FILE, html::write),
    (junit::JUNIT_FILE, junit::write),
    (markdown::SUMMARY_FILE, markdown::write_summary),
    (markdown::RELEASE_NOTE_FILE, markdown::write_release_note),
];

/// Writes `report` into `folder` in every format.
pub fn write_all(report: &RunReport, folder: &Path) -> Result<(), ReportFileError> {
    file::write(report, folder)?;
    for (name, format) in FORMATS {
        write_whole(&folder.join(name), |out| format(report, out))?;
    }
    Ok(())
}

/// Removes the report and the evidence of an earlier run from `folder`. Until this run has ended,
/// they would pass for its own.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let files = FORMATS.iter().map(|(name, _)| *name).chain([file::REPORT_FILE]);
    let removed = files.map(|name| fs::remove_file(folder.join(name)));
    let evidence = fs::remove_dir_all(folder.join(EVIDENCE_FOLDER));
    removed.chain([evidence]).try_for_each(|removed| match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
}
