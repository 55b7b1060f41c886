//! Many runs side by side: how often each trial passes, whether it is a flake, and whether it gets slower.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use maud::{Markup, html};

use super::baseline::median;
use super::file::{self, REPORT_FILE, ReportFileError};
use super::html::page;
use super::model::{Outcome, RunReport};
use super::summary::{distinct, took};

/// The page's file name within the folder of reports.
pub const HISTORY_FILE: &str = "history.html";

/// So many runs are on a plot: more are thinner than a line.
const PLOTTED: usize = 60;

/// The past of one trial, oldest run first.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialHistory {
    /// Its name.
    pub name: String,
    /// Every run in which it ran.
    pub runs: Vec<PastRun>,
}

/// One run of one trial.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRun {
    /// The run's identifier.
    pub run: String,
    /// The project's commit.
    pub commit: Option<String>,
    /// What came of the trial.
    pub outcome: Outcome,
    /// How long it took.
    pub duration_ms: u64,
}

/// Reads every report in the folders of `reports`, oldest first, and says which could not be read.
pub fn read_all(reports: &Path) -> Result<(Vec<RunReport>, Vec<ReportFileError>), ReportFileError> {
    let listed = std::fs::read_dir(reports).map_err(|source| ReportFileError::io(reports, source))?;
    let paths: Vec<PathBuf> = listed
        .flatten()
        .map(|entry| entry.path().join(REPORT_FILE))
        .filter(|path| path.is_file())
        .collect();
    let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
    for path in paths {
        match file::read(&path) {
            Ok(report) => runs.push(report),
            Err(error) => unreadable.push(error),
        }
    }
    runs.sort_by(|a, b| (a.started, &a.run).cmp(&(b.started, &b.run)));
    Ok((runs, unreadable))
}

/// The past of every trial, in the order of the newest run.
pub fn histories(runs: &[RunReport]) -> Vec<TrialHistory> {
    let names = distinct(
        runs.iter()
            .rev()
            .flat_map(|run| &run.trials)
            .map(|trial| trial.name.clone()),
    );
    let of_trial = |name: &String| {
        let past = runs.iter().filter_map(|run| {
            let trial = run.trials.iter().find(|trial| trial.name == *name)?;
            (!matches!(trial.outcome, Outcome::Skipped { .. })).then(|| PastRun {
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
    /// How many of its runs passed.
    pub fn passed(&self) -> usize {
        self.runs
            .iter()
            .filter(|run| run.outcome == Outcome::Passed)
            .count()
    }

    /// Whether it passed and failed on the same clean commit: then the deployment is not what decides. Without commits, whether
    /// it failed between two passes.
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

    /// The middle of its durations when it passed, in milliseconds.
    pub fn median_ms(&self) -> f64 {
        median(self.durations())
    }

    /// The newest third of its passing runs against the oldest, as a ratio; nothing before there are six.
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

/// The table for a terminal.
pub fn table(histories: &[TrialHistory]) -> String {
    let width = histories.iter().map(|trial| trial.name.len()).max().unwrap_or(5);
    let mut text = format!(
        "{:width$}  passed    median  trend  runs, oldest first\n",
        "trial"
    );
    for trial in histories {
        let trend = trial.trend().map_or_else(
            || "·".to_owned(),
            |ratio| format!("{:+.0} %", (ratio - 1.0) * 100.0),
        );
        let marks: String = trial.runs.iter().map(|run| mark(&run.outcome)).collect();
        let flaky = if trial.is_flaky() { "  FLAKY" } else { "" };
        let _ = writeln!(
            text,
            "{:width$}  {:>2} of {:<2}  {:>6.1} s  {trend:>5}  {marks}{flaky}",
            trial.name,
            trial.passed(),
            trial.runs.len(),
            trial.median_ms() / 1000.0
        );
    }
    text
}

fn mark(outcome: &Outcome) -> char {
    match outcome {
        Outcome::Passed => '✓',
        Outcome::Failed { .. } => '✗',
        Outcome::Skipped { .. } => '–',
        Outcome::Invalid { .. } | Outcome::Broken { .. } => '!',
    }
}

/// Writes the page with a plot for every trial.
pub fn write_html(runs: &[RunReport], out: &mut dyn Write) -> io::Result<()> {
    let histories = histories(runs);
    let flaky = histories.iter().filter(|trial| trial.is_flaky()).count();
    let content = html! {
        h1 { "History of " (runs.len()) " runs" }
        p.note { (histories.len()) " trials, " (flaky) " of them flaky. Each bar is a run, oldest first; its height is how long the trial took." }
        div.scroll role="region" aria-label="Trials" tabindex="0" { table.grid {
            thead { tr { th scope="col" { "Trial" } th scope="col" { "Passed" } th scope="col" { "Median" } th scope="col" { "Trend" } th scope="col" { "Runs" } } }
            tbody { @for trial in &histories { tr {
                th scope="row" { (trial.name) @if trial.is_flaky() { " " span.badge.invalid { "! flaky" } } }
                td.n { (trial.passed()) " of " (trial.runs.len()) }
                td.n { (format!("{:.1} s", trial.median_ms() / 1000.0)) }
                td.n { @match trial.trend() { Some(ratio) => { (format!("{:+.0} %", (ratio - 1.0) * 100.0)) } None => { "·" } } }
                td { (plot(trial)) }
            } } }
        } }
    };
    out.write_all(page("History", &content).into_string().as_bytes())
}

fn plot(trial: &TrialHistory) -> Markup {
    let shown = &trial.runs[trial.runs.len().saturating_sub(PLOTTED)..];
    let longest = shown.iter().map(|run| run.duration_ms).max().unwrap_or(1).max(1);
    html! {
        svg role="img" aria-label={ (trial.name) ": " (trial.passed()) " of " (trial.runs.len()) " runs passed" }
            width=(shown.len() * 7) height="32" viewBox={ "0 0 " (shown.len() * 7) " 32" } {
            @for (index, run) in shown.iter().enumerate() {
                @let height = (run.duration_ms * 32 / longest).max(2);
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
    use crate::report::model::tests_support::{report, trial};

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
        let text = table(&histories(&runs));
        assert!(
            text.contains(" 6 of 6 ") && text.contains("✓✓✓✓✓✓") && text.contains("+73 %"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_report_is_told_and_the_rest_is_read() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        file::write(&run(1, Outcome::Passed, 1), &folder.path().join("r1")).expect("written");
        std::fs::create_dir(folder.path().join("r2")).expect("made");
        std::fs::write(folder.path().join("r2/report.json"), "{").expect("written");
        let (runs, unreadable) = read_all(folder.path()).expect("listed");
        assert_eq!((runs.len(), unreadable.len()), (1, 1));
        let mut page = Vec::new();
        write_html(&runs, &mut page).expect("written");
        assert!(
            String::from_utf8(page)
                .expect("text")
                .contains("History of 1 runs")
        );
    }
}
