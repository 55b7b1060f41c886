//! Writes the report of a finished run in every format, side by side.

use std::io::{self, Write};
use std::path::Path;

use super::file::{self, ReportFileError, write_whole};
use super::model::RunReport;
use super::{html, junit, markdown};

/// Writes a report in one format.
type Format = fn(&RunReport, &mut dyn Write) -> io::Result<()>;

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
