//! A comparison of many runs: the pass rate, flakiness and trend of each trial.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use maud::{Markup, html};

use super::baseline::median;
use super::file::{self, REPORT_FILE, ReportFileError};
use super::html::page;
use super::layout::shortened;
use super::model::{Outcome, RunReport, TrialReport};
use super::style::Style;
use super::summary::{distinct, took};

/// The page's file name within the folder of reports.
pub const HISTORY_FILE: &str = "history.html";

/// Maximum number of runs on a plot. More would be thinner than a line.
const PLOTTED: usize = 60;

/// The past of one trial, oldest run first.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialHistory {
    /// The trial's name.
    pub name: String,
    /// Every run of the trial.
    pub runs: Vec<PastRun>,
}

/// One run of one trial.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRun {
    /// The run's identifier.
    pub run: String,
    /// The project's commit.
    pub commit: Option<String>,
    /// The outcome of the trial.
    pub outcome: Outcome,
    /// The trial's duration.
    pub duration_ms: u64,
}

/// Lists every report in the subfolders of `reports`.
fn list(reports: &Path) -> Result<Vec<PathBuf>, ReportFileError> {
    let listed = std::fs::read_dir(reports).map_err(|source| ReportFileError::io(reports, source))?;
    let paths = listed.flatten().map(|entry| entry.path().join(REPORT_FILE));
    Ok(paths.filter(|path| path.is_file()).collect())
}

/// Returns the last written report below `reports` that is `wanted`. Reads the newest first and
/// stops at the first match, because a folder may have hundreds of runs.
pub fn newest(reports: &Path, wanted: impl Fn(&RunReport) -> bool) -> Option<RunReport> {
    let mut paths = list(reports).ok()?;
    let written = |path: &PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    paths.sort_by_cached_key(|path| std::cmp::Reverse(written(path)));
    let readable = paths.iter().filter_map(|path| file::read(path).ok());
    readable.into_iter().find(|report| wanted(report))
}

/// Reads every report below `reports`, oldest first. Also returns the errors of unreadable ones.
pub fn read_all(reports: &Path) -> Result<(Vec<RunReport>, Vec<ReportFileError>), ReportFileError> {
    let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
    for path in list(reports)? {
        match file::read(&path) {
            Ok(report) => runs.push(report),
            Err(error) => unreadable.push(error),
        }
    }
    runs.sort_by(|a, b| (a.started, &a.run).cmp(&(b.started, &b.run)));
    Ok((runs, unreadable))
}

/// Returns the history of every trial, in the order of the newest run.
pub fn histories(runs: &[RunReport]) -> Vec<TrialHistory> {
    let names = distinct(
        runs.iter()
            .rev()
            .flat_map(|run| &run.trials)
            .map(|trial| trial.name.clone()),
    );
    let by_name: Vec<(&RunReport, HashMap<&String, &TrialReport>)> = runs
        .iter()
        .map(|run| (run, run.trials.iter().map(|trial| (&trial.name, trial)).collect()))
        .collect();
    let of_trial = |name: &String| {
        let past = by_name.iter().filter_map(|(run, trials)| {
            let trial = trials.get(name)?;
            trial.outcome.has_run().then(|| PastRun {
                run: run.run.clone(),
                commit: run.deployment.commit.clone(),
                outcome: trial.outcome.clone(),
                duration_ms: trial.duration_ms,
            })
        });
        TrialHistory {
            name: name.clone(),
            runs: past.collect(),
        }
    };
    names
        .iter()
        .map(of_trial)
        .filter(|trial| !trial.runs.is_empty())
        .collect()
}

impl TrialHistory {
    /// Returns the number of passed runs.
    pub fn passed(&self) -> usize {
        self.runs
            .iter()
            .filter(|run| run.outcome == Outcome::Passed)
            .count()
    }

    /// Returns true if the trial passed and failed on the same clean commit. Then the deployment
    /// does not decide the outcome. A failure between two passes also counts.
    pub fn is_flaky(&self) -> bool {
        let clean = |run: &&PastRun| {
            run.commit
                .as_ref()
                .is_some_and(|commit| !commit.ends_with("-dirty"))
        };
        let passed_on = |commit: &Option<String>| {
            self.runs
                .iter()
                .any(|run| run.commit == *commit && run.outcome == Outcome::Passed)
        };
        let failed = |run: &&PastRun| run.outcome.is_failure();
        let same_commit = self
            .runs
            .iter()
            .filter(clean)
            .filter(failed)
            .any(|run| passed_on(&run.commit));
        let between = self.runs.windows(3).any(|three| {
            let [before, run, after] = three else { return false };
            before.outcome == Outcome::Passed && run.outcome.is_failure() && after.outcome == Outcome::Passed
        });
        same_commit || between
    }

    /// Returns the median duration of passed runs, in milliseconds.
    pub fn median_ms(&self) -> f64 {
        median(self.durations())
    }

    /// Returns the ratio of the newest third of passed runs to the oldest; `None` below six runs.
    pub fn trend(&self) -> Option<f64> {
        let durations = self.durations();
        if durations.len() < 6 {
            return None;
        }
        let third = durations.len() / 3;
        let (old, new) = (&durations[..third], &durations[durations.len() - third..]);
        Some(median(new.to_vec()) / median(old.to_vec()).max(1.0))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a trial lasts less than 2^53 milliseconds"
    )]
    fn durations(&self) -> Vec<f64> {
        let passed = self.runs.iter().filter(|run| run.outcome == Outcome::Passed);
        passed.map(|run| run.duration_ms as f64).collect()
    }
}

/// Renders the table for a terminal. A narrow one gets shortened names, no durations, and only the
/// newest runs.
pub fn table(histories: &[TrialHistory], style: Style) -> String {
    let longest = histories.iter().map(|trial| trial.name.chars().count()).max();
    let longest = longest.unwrap_or(0).max("trial".len());
    let room = style.width().unwrap_or(usize::MAX);
    let with_durations = room >= longest + PASSED + DURATIONS + LEAST_RUNS;
    let beside = PASSED + if with_durations { DURATIONS } else { 0 };
    let name_width = longest.min(room.saturating_sub(beside + LEAST_RUNS));
    let runs = room
        .saturating_sub(name_width + beside + 2 + "  FLAKY".len())
        .min(PLOTTED);
    let durations = if with_durations { "    median  trend" } else { "" };
    let runs_are = if with_durations {
        "runs, oldest first"
    } else {
        "runs"
    };
    let mut text = format!("{:name_width$}  passed  {durations}  {runs_are}", "trial");
    text = shortened_end(&text, room) + "\n";
    for trial in histories {
        let shown = &trial.runs[trial.runs.len().saturating_sub(runs)..];
        let marks: String = shown.iter().map(|run| run.outcome.sign()).collect();
        let name = shortened(&trial.name, name_width);
        let _ = write!(
            text,
            "{name:name_width$}  {:>2} of {:<2}",
            trial.passed(),
            trial.runs.len()
        );
        if with_durations {
            let trend = trial.trend().map_or_else(|| "·".to_owned(), percent);
            let _ = write!(text, "  {:>6.1} s  {trend:>5}", trial.median_ms() / 1000.0);
        }
        let _ = writeln!(text, "  {marks}{}", if trial.is_flaky() { "  FLAKY" } else { "" });
    }
    text
}

/// Width of the columns next to the name: passes, then median and trend.
const PASSED: usize = 10;
const DURATIONS: usize = 17;

/// Least width of the runs column, with the gap before and the word behind.
const LEAST_RUNS: usize = 2 + 7 + "  FLAKY".len();

fn percent(ratio: f64) -> String {
    format!("{:+.0} %", (ratio - 1.0) * 100.0)
}

/// Returns the beginning of `text` that fits.
fn shortened_end(text: &str, room: usize) -> String {
    text.chars().take(room).collect::<String>().trim_end().to_owned()
}

/// Writes the page with a plot for every trial.
pub fn write_html(runs: &[RunReport], out: &mut dyn Write) -> io::Result<()> {
    let histories = histories(runs);
    let flaky = histories.iter().filter(|trial| trial.is_flaky()).count();
    let content = html! {
        h1 { "History of " (runs.len()) " runs" }
        p.note { (histories.len()) " trials, " (flaky) " of them flaky. Each bar is a run, oldest first; its height is the time of the trial, relative to its longest pass." }
        div.scroll role="region" aria-label="Trials" tabindex="0" { table.grid.past {
            thead { tr { th scope="col" { "Trial" } th scope="col" { "Passed" } th scope="col" { "Median" } th scope="col" { "Trend" } th scope="col" { "Runs" } } }
            tbody { @for trial in &histories { tr {
                th scope="row" { (trial.name.replace("::", " · ").replace('_', " ")) @if trial.is_flaky() { " " span.badge.invalid { "! flaky" } } }
                td.n { (trial.passed()) " of " (trial.runs.len()) }
                td.n { (format!("{:.1} s", trial.median_ms() / 1000.0)) }
                td.n { (trial.trend().map_or_else(|| "·".to_owned(), percent)) }
                td { (plot(trial)) }
            } } }
        } }
    };
    out.write_all(page("History", &content).into_string().as_bytes())
}

fn plot(trial: &TrialHistory) -> Markup {
    let shown = &trial.runs[trial.runs.len().saturating_sub(PLOTTED)..];
    // A failed run may have waited for minutes and would flatten all others.
    let passed = shown.iter().filter(|run| run.outcome == Outcome::Passed);
    let longest = passed.map(|run| run.duration_ms).max();
    let longest = longest.or_else(|| shown.iter().map(|run| run.duration_ms).max());
    let longest = longest.unwrap_or(1).max(1);
    html! {
        svg role="img" aria-label={ (trial.name) ": " (trial.passed()) " of " (trial.runs.len()) " runs passed" }
            width=(shown.len() * 7) height="32" viewBox={ "0 0 " (shown.len() * 7) " 32" } {
            @for (index, run) in shown.iter().enumerate() {
                @let height = (run.duration_ms * 32 / longest).clamp(2, 32);
                rect class=(match run.outcome { Outcome::Passed => "ready", Outcome::Failed { .. } => "failed", _ => "waiting" })
                    x=(index * 7) y=(32 - height) width="5" height=(height) {
                    title { (run.run) ": " (run.outcome.word()) ", " (took(run.duration_ms)) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::samples::{report, trial};

    fn run(number: u64, outcome: Outcome, duration_ms: u64) -> RunReport {
        let mut run = report(vec![trial("s", "a", "cluster", "rpm", outcome)]);
        run.run = format!("r{number}");
        run.trials[0].duration_ms = duration_ms;
        run.deployment.commit = Some("abc".to_owned());
        run
    }

    fn failed() -> Outcome {
        Outcome::Failed {
            cause: None,
            message: "x".into(),
        }
    }

    #[test]
    fn a_trial_that_passes_and_fails_on_one_commit_is_a_flake() {
        let mut runs = vec![run(1, Outcome::Passed, 1000), run(2, failed(), 1000)];
        assert!(histories(&runs)[0].is_flaky());
        runs[1].deployment.commit = Some("def".to_owned());
        assert!(!histories(&runs)[0].is_flaky(), "another commit may be at fault");
    }

    #[test]
    fn a_trend_compares_the_newest_with_the_oldest() {
        let runs: Vec<RunReport> = (0..6).map(|n| run(n, Outcome::Passed, 1000 + 200 * n)).collect();
        let history = &histories(&runs)[0];
        assert_eq!(history.trend().map(|ratio| (ratio * 100.0).round()), Some(173.0));
        assert_eq!(histories(&runs[..5])[0].trend(), None);
        let text = table(&histories(&runs), Style::PLAIN);
        assert!(
            text.contains(" 6 of 6 ") && text.contains("✓✓✓✓✓✓") && text.contains("+73 %"),
            "{text}"
        );
    }

    #[test]
    fn the_table_fits_the_terminal_and_keeps_the_newest_runs() {
        let mut runs: Vec<RunReport> = (0..40).map(|n| run(n, Outcome::Passed, 1000)).collect();
        runs[39].trials[0].outcome = failed();
        for run in &mut runs {
            run.trials[0].name = "persistence::data_survives_pod_deletion::standalone-hardened".to_owned();
        }
        for width in 40..140 {
            let text = table(&histories(&runs), Style::PLAIN.within(Some(width)));
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(width), "{width}:\n{text}");
            assert!(
                text.contains("✓✗  FLAKY") && text.contains("39 of 40"),
                "{width}:\n{text}"
            );
        }
    }

    #[test]
    fn what_is_no_report_is_told_and_the_rest_is_read() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        file::write(&run(1, Outcome::Passed, 1), &folder.path().join("r1")).expect("written");
        std::fs::create_dir(folder.path().join("r2")).expect("made");
        std::fs::write(folder.path().join("r2/report.json"), "{").expect("written");
        let (runs, unreadable) = read_all(folder.path()).expect("listed");
        assert_eq!((runs.len(), unreadable.len()), (1, 1));
        let found = newest(folder.path(), |report| report.run == "r1").expect("it is there");
        assert_eq!(found, runs[0]);
        assert_eq!(newest(folder.path(), |report| report.run == "r2"), None);
        let mut page = Vec::new();
        write_html(&runs, &mut page).expect("written");
        assert!(
            String::from_utf8(page)
                .expect("text")
                .contains("History of 1 runs")
        );
    }
}
