//! `cargo xtask report`: what can be done with reports once they are written.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use harness::report::file::{self, ReportFileError};
use harness::report::journal::RecoverError;
use harness::report::merge::MergeError;
use harness::report::schema::{SCHEMA_FILE, schema};
use harness::report::style::{Stream, Style};
use harness::report::{RunReport, baseline, history, html, journal, merge, outputs, summary};

use crate::exit;

/// The commands of `report`. A REPORT is a `report.json` or the folder that it is in.
#[derive(Debug, Subcommand)]
pub(crate) enum ReportCommand {
    /// Put the reports of shards together; exits as the run would have that ran all of them.
    Merge(MergeArgs),
    /// What is different in AFTER; exits with 1 when a trial fails that did not before.
    Diff {
        /// The earlier run's report.
        before: PathBuf,
        /// The later run's report.
        after: PathBuf,
    },
    /// Print a report as its run did at its end.
    Show {
        /// The report.
        report: PathBuf,
    },
    /// Open a report's page in the browser ($BROWSER, or xdg-open); prints its path where there is none.
    Open {
        /// The report.
        report: PathBuf,
    },
    /// Pass rates, flakes and durations over many runs, as a table and as a page with plots.
    History {
        /// The folder that the runs' folders are in.
        #[arg(default_value = "reports")]
        reports: PathBuf,
    },
    /// Make a partial, inconclusive report of a run that was killed.
    Recover {
        /// The folder of its report.
        folder: PathBuf,
    },
    /// Write the JSON Schema of report.json to its file in the project.
    Schema {
        /// Only compare the file with what would be written.
        #[arg(long)]
        check: bool,
    },
}

/// The arguments of `merge`.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The shards' reports.
    #[arg(required = true)]
    reports: Vec<PathBuf>,
    /// The folder of the merged report.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
}

/// Runs the command.
pub(crate) fn run(command: ReportCommand) -> anyhow::Result<ExitCode> {
    let code = match command {
        ReportCommand::Merge(args) => merge_reports(&args)?,
        ReportCommand::Diff { before, after } => diff(&before, &after)?,
        ReportCommand::Show { report } => show(&report)?,
        ReportCommand::Open { report } => open(&report)?,
        ReportCommand::History { reports } => write_history(&reports)?,
        ReportCommand::Recover { folder } => recover(&folder)?,
        ReportCommand::Schema { check } => write_schema(check)?,
    };
    Ok(ExitCode::from(code))
}

/// Whether an error is about what was typed: files that are no reports, or that do not belong together.
pub(crate) fn is_usage(error: &anyhow::Error) -> bool {
    let unreadable = matches!(
        error.downcast_ref(),
        Some(
            ReportFileError::Truncated { .. }
                | ReportFileError::Newer { .. }
                | ReportFileError::Content { .. }
        )
    );
    // A report that is not there was misspelt; one that may not be read is another matter.
    let absent = matches!(
        error.downcast_ref(),
        Some(ReportFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound
    );
    unreadable || absent || error.is::<MergeError>() || error.is::<RecoverError>()
}

fn merge_reports(args: &MergeArgs) -> anyhow::Result<u8> {
    let reports: Vec<RunReport> = args
        .reports
        .iter()
        .map(|path| file::read(path))
        .collect::<Result<_, _>>()?;
    let merged = merge::merge(&reports)?;
    outputs::write_all(&merged, &args.into)?;
    print(&merged, &args.into);
    Ok(exit::code_of_run(&merged))
}

fn show(path: &Path) -> anyhow::Result<u8> {
    let report = file::read(path)?;
    let folder = if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(Path::new("."))
    };
    print(&report, folder);
    Ok(exit::QUALIFIED)
}

/// Writes the page anew, since it may be from an earlier version or from elsewhere without one, and opens it.
fn open(path: &Path) -> anyhow::Result<u8> {
    let report = file::read(path)?;
    let folder = if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(Path::new("."))
    };
    let page = folder.join(html::HTML_FILE);
    file::write_whole(&page, |out| html::write(&report, out))?;
    let browser = std::env::var("BROWSER").unwrap_or_else(|_| "xdg-open".to_owned());
    let opened = std::process::Command::new(&browser).arg(&page).status();
    if !opened.is_ok_and(|status| status.success()) {
        eprintln!("{browser} does not open it; set BROWSER, or open it yourself:");
    }
    say(&page.display().to_string());
    Ok(exit::QUALIFIED)
}

fn write_history(reports: &Path) -> anyhow::Result<u8> {
    let (runs, unreadable) = history::read_all(reports)?;
    for error in unreadable {
        eprintln!("left out: {error}");
    }
    if runs.is_empty() {
        let nothing = format!("there is no report in the folders of {}", reports.display());
        return Err(exit::UsageError(nothing).into());
    }
    let page = reports.join(history::HISTORY_FILE);
    file::write_whole(&page, |out| history::write_html(&runs, out))?;
    say(history::table(&history::histories(&runs), Style::of(Stream::Stdout)).trim_end());
    say(&page.display().to_string());
    Ok(exit::QUALIFIED)
}

fn recover(folder: &Path) -> anyhow::Result<u8> {
    let report = journal::recover(folder)?;
    outputs::write_all(&report, folder)?;
    print(&report, folder);
    Ok(exit::QUALIFIED)
}

fn diff(before: &Path, after: &Path) -> anyhow::Result<u8> {
    let (before, mut after) = (file::read(before)?, file::read(after)?);
    let baseline = baseline::Baseline::new(&before, &after, true);
    let regressed = baseline.changes.regressed();
    after.baseline = Some(baseline);
    say(summary::compared(&after, Style::of(Stream::Stdout)).trim_end());
    Ok(if regressed {
        exit::NOT_QUALIFIED
    } else {
        exit::QUALIFIED
    })
}

fn write_schema(check: bool) -> anyhow::Result<u8> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the command line is a folder of the project");
    let path = project.join(SCHEMA_FILE);
    if !check {
        file::write_whole(&path, |out| out.write_all(schema().as_bytes()))?;
        say(SCHEMA_FILE);
        return Ok(exit::QUALIFIED);
    }
    if std::fs::read_to_string(&path).is_ok_and(|committed| committed == schema()) {
        return Ok(exit::QUALIFIED);
    }
    say(&format!(
        "{SCHEMA_FILE} is not what the types say; `cargo xtask report schema` writes it"
    ));
    Ok(exit::NOT_QUALIFIED)
}

fn print(report: &RunReport, folder: &Path) {
    say(&summary::render(report, folder, None, Style::of(Stream::Stdout)));
}

/// Writes `text` and the end of its line. A reader that has seen enough and went away (`head`) is no failure.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
