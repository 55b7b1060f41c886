//! A live view on a terminal. The run has a bar; each running trial has a spinner with its current
//! step.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::event::{Event, Reporter};
use super::layout::{shortened, wrapped};
use super::style::Style;
use super::{plain, summary};

/// Interval at which a spinner turns: fast enough to look alive, slow enough to cost nothing.
const TICK: Duration = Duration::from_millis(120);

/// The longest bar of the whole run.
const LONGEST_BAR: usize = 30;

/// Columns of the margin and the spinner before a trial's line.
const BESIDE_SPINNER: usize = 4;

/// Draws on standard error, so that standard output can be piped.
#[derive(Debug)]
pub struct Progress {
    bars: MultiProgress,
    total: Option<ProgressBar>,
    running: BTreeMap<String, ProgressBar>,
    style: Style,
}

impl Progress {
    /// Creates a reporter for the terminal behind standard error.
    pub fn new(style: Style) -> Self {
        Self {
            bars: MultiProgress::new(),
            total: None,
            running: BTreeMap::new(),
            style,
        }
    }

    fn print(&self, text: &str) {
        // A closed terminal must not stop the run.
        let _ = self.bars.println(text);
    }

    fn start_total(&mut self, trials: usize) {
        let bar = self
            .bars
            .add(ProgressBar::new(u64::try_from(trials).unwrap_or(u64::MAX)));
        // The text next to the bar needs some twenty columns.
        let bar_width = self.style.width().map_or(LONGEST_BAR, |width| {
            width.saturating_sub(22).clamp(4, LONGEST_BAR)
        });
        bar.set_style(template(&format!(
            "[{{elapsed_precise}}] {{bar:{bar_width}}} {{pos}}/{{len}}"
        )));
        bar.enable_steady_tick(TICK);
        self.total = Some(bar);
    }

    fn start_trial(&mut self, trial: &str) {
        let spinner = self.bars.add(ProgressBar::new_spinner());
        // A line wider than the terminal would be redrawn below instead of being replaced.
        spinner.set_style(template("  {spinner} {wide_msg}"));
        spinner.set_message(present(trial, "", self.style.width()));
        spinner.enable_steady_tick(TICK);
        self.running.insert(trial.to_owned(), spinner);
    }
}

impl Reporter for Progress {
    fn on(&mut self, event: &Event) {
        if let Some(text) = plain::announcement(event) {
            self.print(&wrapped(&text, self.style.width()));
        }
        match event {
            Event::RunStarted { trials, .. } => self.start_total(*trials),
            Event::TrialStarted { trial } => self.start_trial(trial),
            Event::StepStarted { trial, step } => {
                if let Some(spinner) = self.running.get(trial) {
                    spinner.set_message(present(trial, step, self.style.width()));
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

/// Renders the current state of a trial next to its spinner. Shortens the name, and keeps the step
/// whole where possible.
fn present(trial: &str, step: &str, width: Option<usize>) -> String {
    let Some(room) = width.map(|width| width.saturating_sub(BESIDE_SPINNER)) else {
        return format!("{trial}  {step}");
    };
    let step = shortened(step, room / 2);
    let name = shortened(trial, room.saturating_sub(step.chars().count() + 2));
    format!("{name}  {step}")
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the template is a constant of this file and is valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_under_way_fits_the_terminal() {
        let (trial, step) = (
            "persistence::data_survives_pod_deletion::cluster-rpm",
            "wait until healthy",
        );
        for width in 20..100 {
            let text = present(trial, step, Some(width));
            assert!(text.chars().count() + BESIDE_SPINNER <= width, "{width}: {text}");
        }
        assert_eq!(
            present("a::b::cluster-rpm", "install", Some(60)),
            "a::b::cluster-rpm  install"
        );
    }
}
