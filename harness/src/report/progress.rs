//! A live view on a terminal: a bar for the run, and a spinner with the present step for every trial under way.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::event::{Event, Reporter};
use super::style::Style;
use super::{plain, summary};

/// How often a spinner turns: often enough to look alive, seldom enough to cost nothing.
const TICK: Duration = Duration::from_millis(120);

/// Draws on standard error, so that standard output can be piped.
#[derive(Debug)]
pub struct Progress {
    bars: MultiProgress,
    total: Option<ProgressBar>,
    running: BTreeMap<String, ProgressBar>,
    style: Style,
}

impl Progress {
    /// A reporter for the terminal behind standard error.
    pub fn new(style: Style) -> Self {
        Self {
            bars: MultiProgress::new(),
            total: None,
            running: BTreeMap::new(),
            style,
        }
    }

    fn print(&self, text: &str) {
        // A terminal that went away must not stop the run.
        let _ = self.bars.println(text);
    }

    fn start_total(&mut self, trials: usize) {
        let bar = self
            .bars
            .add(ProgressBar::new(u64::try_from(trials).unwrap_or(u64::MAX)));
        bar.set_style(template("[{elapsed_precise}] {bar:30} {pos}/{len}"));
        bar.enable_steady_tick(TICK);
        self.total = Some(bar);
    }

    fn start_trial(&mut self, trial: &str) {
        let spinner = self.bars.add(ProgressBar::new_spinner());
        spinner.set_style(template("  {spinner} {prefix}  {msg}"));
        spinner.set_prefix(trial.to_owned());
        spinner.enable_steady_tick(TICK);
        self.running.insert(trial.to_owned(), spinner);
    }
}

impl Reporter for Progress {
    fn on(&mut self, event: &Event) {
        if let Some(text) = plain::announcement(event) {
            self.print(&text);
        }
        match event {
            Event::RunStarted { trials, .. } => self.start_total(*trials),
            Event::TrialStarted { trial } => self.start_trial(trial),
            Event::StepStarted { trial, step } => {
                if let Some(spinner) = self.running.get(trial) {
                    spinner.set_message(step.clone());
                }
            }
            Event::TrialFinished { report } => {
                if let Some(spinner) = self.running.remove(&report.name) {
                    spinner.finish_and_clear();
                }
                self.print(&plain::trial_line(report, self.style));
                if let Some(total) = &self.total {
                    total.inc(1);
                }
            }
            Event::RunFinished { report, folder, kept } => {
                self.running.clear();
                if let Some(total) = self.total.take() {
                    total.finish_and_clear();
                }
                self.print(&summary::render(report, folder, kept.as_deref(), self.style));
            }
            Event::Note { .. } | Event::ClusterReady { .. } | Event::Interrupted => {}
        }
    }
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the template is a constant of this file and is valid")
}
