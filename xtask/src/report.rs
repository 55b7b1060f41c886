//! The command `report`: merges, compares, shows and recovers finished reports.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use harness::report::file::{self, ReportFileError};
use harness::report::journal::RecoverError;
use harness::report::known::{self, KnownError};
use harness::report::merge::MergeError;
use harness::report::schema::{SCHEMA_FILE, schema};
use harness::report::style::{Stream, Style};
use harness::report::{RunReport, baseline, history, html, journal, merge, outputs, summary};

use crate::{checkout, exit};

/// The commands of `report`. A REPORT is a `report.json` or its folder.
#[derive(Debug, Subcommand)]
pub(crate) enum ReportCommand {
    /// Merge the reports of shards; exits like a run of all shards.
    Merge(MergeArgs),
    /// Compare two runs; exits with 1 on a new failure, with 3 on a missing trial.
    Diff {
        /// The earlier run's report.
        before: PathBuf,
        /// The later run's report.
        after: PathBuf,
    },
    /// Print a first file of known findings for `e2e --known`, with an entry for each finding of a
    /// report.
    Known {
        /// The report.
        report: PathBuf,
    },
    /// Print a report's summary, as at the end of its run.
    Show {
        /// The report.
        report: PathBuf,
    },
    /// Open a report's page in the browser ($BROWSER, or xdg-open); without a browser, print its
    /// path.
    Open {
        /// The report.
        report: PathBuf,
    },
    /// Pass rates, flakes and durations over many runs, as a table and as a page with plots.
    History {
        /// The folder that contains the runs' folders.
        #[arg(default_value = "reports")]
        reports: PathBuf,
    },
    /// Make a partial, inconclusive report of a killed run.
    Recover {
        /// The folder of the run's report.
        folder: PathBuf,
    },
    /// Write the JSON Schema of report.json to its file in the project.
    Schema {
        /// Only compare the file with the current schema.
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
        ReportCommand::Known { report } => write_known(&report)?,
        ReportCommand::Show { report } => show(&report)?,
        ReportCommand::Open { report } => open(&report)?,
        ReportCommand::History { reports } => write_history(&reports)?,
        ReportCommand::Recover { folder } => recover(&folder)?,
        ReportCommand::Schema { check } => write_schema(check)?,
    };
    Ok(ExitCode::from(code))
}

/// Returns true if the user typed the wrong files: not reports, or reports that do not belong
/// together.
pub(crate) fn is_usage(error: &anyhow::Error) -> bool {
    let unreadable = matches!(
        error.downcast_ref(),
        Some(
            ReportFileError::Truncated { .. }
                | ReportFileError::Newer { .. }
                | ReportFileError::Content { .. }
                | ReportFileError::InUse { .. }
        )
    );
    // An absent report is a typing error; an unreadable one is not.
    let absent = matches!(
        error.downcast_ref(),
        Some(ReportFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound
    );
    unreadable || absent || error.is::<MergeError>() || error.is::<RecoverError>() || error.is::<KnownError>()
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

/// Prints an entry for each finding. The reasons are left for a person to write.
fn write_known(path: &Path) -> anyhow::Result<u8> {
    let report = file::read(path)?;
    say(known::first_file(&report, jiff::Zoned::now().date()).trim_end());
    Ok(exit::QUALIFIED)
}

/// Writes the page again and opens it. An existing page may be from an earlier version, or missing.
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
    let vanished = !baseline.changes.removed.is_empty();
    after.baseline = Some(baseline);
    say(summary::compared(&after, Style::of(Stream::Stdout)).trim_end());
    Ok(match (regressed, vanished) {
        (true, _) => exit::NOT_QUALIFIED,
        // A trial that did not run proves nothing.
        (false, true) => exit::ENVIRONMENT,
        (false, false) => exit::QUALIFIED,
    })
}

fn write_schema(check: bool) -> anyhow::Result<u8> {
    let path = checkout::root()?.join(SCHEMA_FILE);
    if !check {
        file::write_whole(&path, |out| out.write_all(schema().as_bytes()))?;
        say(SCHEMA_FILE);
        return Ok(exit::QUALIFIED);
    }
    if std::fs::read_to_string(&path).is_ok_and(|committed| committed == schema()) {
        return Ok(exit::QUALIFIED);
    }
    say(&format!(
        "{SCHEMA_FILE} does not match the types; `cargo xtask report schema` writes it"
    ));
    Ok(exit::NOT_QUALIFIED)
}

fn print(report: &RunReport, folder: &Path) {
    say(&summary::render(report, folder, None, Style::of(Stream::Stdout)));
}

/// Writes `text` and a line break. A closed pipe (`head`) is not a failure.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
