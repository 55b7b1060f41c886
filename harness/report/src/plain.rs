//! One line per event, for CI logs and pipes. There is no cursor movement and no rewriting.

use std::io::Write;

use super::event::{Event, Reporter};
use super::layout::{shortened, wrapped};
use super::model::{Outcome, TrialReport};
use super::style::Style;
use super::{summary, verdict};
use images;

/// Writes lines to `out`.
#[derive(Debug)]
pub struct Plain<W> {
    out: W,
    style: Style,
}

impl<W: Write + Send> Plain<W> {
    /// Creates a reporter that writes to `out`.
    pub fn new(out: W, style: Style) -> Self {
        Self { out, style }
    }

    fn line(&mut self, text: &str) {
        // A closed pipe must not stop the run.
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }
}

impl<W: Write + Send> Reporter for Plain<W> {
    fn on(&mut self, event: &Event) {
        match event {
            Event::TrialFinished { report } => self.line(&trial_line(report, self.style)),
            Event::RunFinished { report, folder, kept } => {
                self.line(&summary::render(report, folder, kept.as_deref(), self.style));
            }
            // In a log, the final line of a trial is enough. Its start and its steps are in the
            // report.
            Event::TrialStarted { .. } | Event::StepStarted { .. } => {}
            Event::RunStarted { .. }
            | Event::Note { .. }
            | Event::ClusterReady { .. }
            | Event::Interrupted => {
                if let Some(text) = announcement(event) {
                    self.line(&wrapped(&text, self.style.width()));
                }
            }
        }
    }
}

/// Returns the line for an event of the whole run.
pub(super) fn announcement(event: &Event) -> Option<String> {
    match event {
        Event::RunStarted {
            run,
            trials,
            jobs,
            profile,
        } => Some(format!(
            "run {run}: {}, {jobs} at a time, profile {profile}",
            verdict::trials(*trials)
        )),
        Event::Note { text } => Some(format!("note: {text}")),
        Event::ClusterReady { provenance, took } => {
            let images: String = provenance.images.iter().map(image_line).collect();
            Some(format!(
                "cluster: {provenance}, ready after {} ms{images}",
                took.as_millis()
            ))
        }
        Event::Interrupted => {
            Some("interrupted: stopping, cleaning up and writing a partial report".to_owned())
        }
        Event::TrialStarted { .. }
        | Event::StepStarted { .. }
        | Event::TrialFinished { .. }
        | Event::RunFinished { .. } => None,
    }
}

/// Returns the line for an image, below that of the cluster. An earlier note gave the reason for a
/// stand-in.
fn image_line(image: &images::Provenance) -> String {
    let what = if image.stand_in {
        "STAND-IN, qualifies the deployment and not the image"
    } else {
        "published image"
    };
    let server = image
        .server_version
        .as_deref()
        .map(|version| format!(", server {version}"))
        .unwrap_or_default();
    format!("\n  {}: {what}{server}, {}", image.reference, image.digest)
}

/// Width of a trial's line before its name.
const BEFORE_NAME: usize = 18;

/// Returns the line for a finished trial. On a narrow terminal, the reason is on the next line.
pub(super) fn trial_line(report: &TrialReport, style: Style) -> String {
    let word = format!("{:<7}", report.outcome.word());
    let took = format!(
        "{:>6.1} s",
        std::time::Duration::from_millis(report.duration_ms).as_secs_f64()
    );
    let word = match &report.outcome {
        Outcome::Passed => style.good(&word),
        Outcome::Failed { .. } => style.bad(&word),
        Outcome::Skipped { .. } | Outcome::Interrupted { .. } => style.faint(&word),
        Outcome::Blocked { .. } | Outcome::Invalid { .. } | Outcome::Broken { .. } => style.doubtful(&word),
    };
    let why = report.headline().unwrap_or_default();
    let separator = if why.is_empty() { "" } else { ": " };
    let line = format!("{word} {took}  {}{separator}{why}", report.name);
    match style.width() {
        Some(width) if console::measure_text_width(&line) > width => {
            let name = shortened(&report.name, width.saturating_sub(BEFORE_NAME));
            let why = if why.is_empty() {
                String::new()
            } else {
                format!("\n  {why}")
            };
            wrapped(&format!("{word} {took}  {name}{why}"), Some(width))
        }
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::model::samples::{report, trial};
    use clusters::Provenance;

    #[test]
    fn a_run_reads_as_lines() {
        let failed = trial(
            "formation",
            "forms",
            "cluster",
            "rpm",
            Outcome::Failed {
                cause: Some("masterauth is not set".to_owned()),
                message: "long story".to_owned(),
            },
        );
        let passed = trial("formation", "forms", "standalone", "rpm", Outcome::Passed);
        let provenance = Provenance {
            provider: "embedded".into(),
            kubernetes: "v1.37".into(),
            ..Provenance::default()
        };
        let mut out = Vec::new();
        let mut reporter = Plain::new(&mut out, Style::PLAIN);
        for event in [
            Event::RunStarted {
                run: "r1".into(),
                trials: 2,
                jobs: 4,
                profile: "fast".into(),
            },
            Event::Note {
                text: "stand-in images".into(),
            },
            Event::ClusterReady {
                provenance: Box::new(provenance),
                took: Duration::from_millis(45),
            },
            Event::TrialStarted {
                trial: passed.name.clone(),
            },
            Event::StepStarted {
                trial: passed.name.clone(),
                step: "install".into(),
            },
            Event::TrialFinished {
                report: Box::new(passed.clone()),
            },
            Event::TrialFinished {
                report: Box::new(failed.clone()),
            },
            Event::RunFinished {
                report: Box::new(report(vec![passed, failed])),
                folder: PathBuf::from("reports/r1"),
                kept: None,
            },
        ] {
            reporter.on(&event);
        }
        insta::assert_snapshot!(String::from_utf8(out).expect("reporters write text"));
    }

    #[test]
    fn a_trials_line_fits_the_terminal() {
        let why =
            "replica vk-percona-valkey-4 never synced: primary refuses its password (masterauth missing)";
        let outcome = Outcome::Failed {
            cause: Some(why.to_owned()),
            message: "long story".to_owned(),
        };
        let failed = trial(
            "persistence",
            "data_survives_pod_deletion",
            "cluster",
            "hardened",
            outcome,
        );
        for width in 40..=120 {
            let text = trial_line(&failed, Style::PLAIN.within(Some(width)));
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(width), "{width}: {text}");
            assert!(text.contains("persist") && text.contains("missing)"), "{text}");
        }
        assert_eq!(trial_line(&failed, Style::PLAIN).lines().count(), 1, "in a log");
    }
}
