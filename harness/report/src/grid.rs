//! The table of scenarios and combinations for a terminal. The widest form that fits is used:
//! durations, words, or signs. A log has no limit and gets durations.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::layout::{shortened, wrapped};
use super::model::{Outcome, TrialReport};
use super::style::Style;
use super::summary::{distinct, took};

/// The cell of a combination that a scenario excludes.
const NOTHING: &str = "·";

/// Columns between two cells.
const GAP: usize = 2;

/// A form of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `suite::scenario`, and the duration of each trial.
    Durations,
    /// Scenarios below their suites, modes above their variants, one word per trial.
    Words,
    /// Scenarios below their suites, one sign per trial, and a legend.
    Signs,
}

/// The trials by scenario and combination.
struct Grid<'a> {
    trials: &'a [TrialReport],
    columns: Vec<String>,
    cells: BTreeMap<(String, String), &'a TrialReport>,
}

/// Renders scenarios as rows and combinations as columns, both in order of first occurrence.
pub(super) fn table(trials: &[TrialReport], style: Style) -> String {
    let grid = Grid {
        trials,
        columns: distinct(trials.iter().map(TrialReport::combination)),
        cells: trials
            .iter()
            .map(|trial| ((trial.story(), trial.combination()), trial))
            .collect(),
    };
    let Some(width) = style.width() else {
        return grid.render(Form::Durations, style, usize::MAX);
    };
    let fits = |form: &Form| grid.longest_label(*form) + grid.cells_width(*form) <= width;
    let form = [Form::Durations, Form::Words].into_iter().find(fits);
    grid.render(form.unwrap_or(Form::Signs), style, width)
}

impl Grid<'_> {
    fn render(&self, form: Form, style: Style, width: usize) -> String {
        let room = width.saturating_sub(self.cells_width(form));
        let first = self.longest_label(form).min(room);
        let mut text = self.heads(form, first);
        let mut suite = "";
        for trial in self.rows() {
            if form != Form::Durations && trial.suite != suite {
                suite = &trial.suite;
                let _ = writeln!(text, "{}", shortened(suite, width));
            }
            let mut line = padded(&shortened(&label(trial, form), first), first);
            for (column, width) in self.columns.iter().zip(self.widths(form)) {
                let found = self.cells.get(&(trial.story(), column.clone()));
                let shown = match found {
                    None => style.faint(&padded(NOTHING, width)),
                    Some(trial) => painted(&padded(&cell(trial, form), width), &trial.outcome, style),
                };
                let _ = write!(line, "{:GAP$}{shown}", "");
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        if form == Form::Signs {
            text.push_str(&self.legend(width));
        }
        text
    }

    /// Returns the first trial of every scenario.
    fn rows(&self) -> Vec<&TrialReport> {
        let mut known = std::collections::BTreeSet::new();
        let first = self.trials.iter().filter(|trial| known.insert(trial.story()));
        first.collect()
    }

    fn longest_label(&self, form: Form) -> usize {
        let lengths = self.trials.iter().map(|trial| label(trial, form).chars().count());
        lengths.max().unwrap_or(0)
    }

    /// Returns the width of all columns, with the gaps before them.
    fn cells_width(&self, form: Form) -> usize {
        self.widths(form).iter().map(|width| width + GAP).sum()
    }

    fn widths(&self, form: Form) -> Vec<usize> {
        let of_column = |column: &String| {
            let cells = self
                .trials
                .iter()
                .filter(|trial| trial.combination() == *column)
                .map(|trial| cell(trial, form).chars().count());
            let (mode, variant) = halves(column);
            let alone = self
                .columns
                .iter()
                .filter(|other| halves(other).0 == mode)
                .count()
                == 1;
            let head = match form {
                Form::Durations => column.chars().count(),
                Form::Words if alone => mode.len().max(variant.len()),
                Form::Words => variant.len(),
                Form::Signs => 1,
            };
            cells.max().unwrap_or(0).max(head)
        };
        self.columns.iter().map(of_column).collect()
    }

    fn heads(&self, form: Form, first: usize) -> String {
        let line = |heads: Vec<String>| {
            let mut text = " ".repeat(first);
            for (head, width) in heads.iter().zip(self.widths(form)) {
                let _ = write!(text, "{:GAP$}{}", "", padded(head, width));
            }
            text.trim_end().to_owned() + "\n"
        };
        match form {
            Form::Durations => line(self.columns.clone()),
            Form::Signs => line(self.letters().map(|(letter, _)| letter.to_string()).collect()),
            Form::Words => {
                self.modes(first)
                    + &line(
                        self.columns
                            .iter()
                            .map(|column| halves(column).1.to_owned())
                            .collect(),
                    )
            }
        }
    }

    /// Renders each mode above its first column, as far as there is room before the next mode.
    fn modes(&self, first: usize) -> String {
        let mut text = " ".repeat(first);
        let mut shown = "";
        let mut end = 0;
        for (column, width) in self.columns.iter().zip(self.widths(Form::Words)) {
            end += GAP + width;
            let mode = halves(column).0;
            if mode != shown {
                let begin = first + end - width;
                text = padded(&shortened(&text, begin.saturating_sub(1)), begin) + mode;
                shown = mode;
            }
        }
        shortened(text.trim_end(), first + end) + "\n"
    }

    fn letters(&self) -> impl Iterator<Item = (char, &String)> {
        ('a'..='z').cycle().zip(&self.columns)
    }

    fn legend(&self, width: usize) -> String {
        let columns: Vec<String> = self
            .letters()
            // A letter stays with its column where the line wraps.
            .map(|(letter, column)| format!("{letter}\u{a0}{column}"))
            .collect();
        let text = format!(
            "{}\n✓ pass, ✗ FAIL, ⊘ blocked, – skip, ! inconclusive",
            columns.join(", ")
        );
        wrapped(&text, Some(width)) + "\n"
    }
}

fn label(trial: &TrialReport, form: Form) -> String {
    match form {
        Form::Durations => trial.story(),
        Form::Words | Form::Signs => format!("  {}", trial.scenario),
    }
}

fn cell(trial: &TrialReport, form: Form) -> String {
    let word = trial.outcome.word();
    match (form, &trial.outcome) {
        (Form::Signs, outcome) => outcome.sign().to_owned(),
        (Form::Durations, Outcome::Passed | Outcome::Failed { .. }) => {
            format!("{word} {}", took(trial.duration_ms))
        }
        (Form::Durations | Form::Words, _) => word.to_owned(),
    }
}

fn painted(text: &str, outcome: &Outcome, style: Style) -> String {
    match outcome {
        Outcome::Passed => style.good(text),
        Outcome::Failed { .. } => style.bad(text),
        Outcome::Skipped { .. } | Outcome::Interrupted { .. } => style.faint(text),
        Outcome::Blocked { .. } | Outcome::Invalid { .. } | Outcome::Broken { .. } => style.doubtful(text),
    }
}

/// Splits a combination into mode and variant.
fn halves(combination: &str) -> (&str, &str) {
    combination.split_once('-').unwrap_or((combination, ""))
}

fn padded(text: &str, width: usize) -> String {
    format!("{text:width$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::samples::trial;

    fn trials() -> Vec<TrialReport> {
        let failed = || Outcome::Failed {
            cause: None,
            message: "x".into(),
        };
        let skipped = || Outcome::Skipped { reason: "x".into() };
        let mut trials = Vec::new();
        for (mode, variant) in [
            ("standalone", "rpm"),
            ("standalone", "hardened"),
            ("cluster", "rpm"),
            ("cluster", "hardened"),
        ] {
            trials.push(trial("formation", "forms", mode, variant, Outcome::Passed));
            let outcome = if mode == "cluster" { failed() } else { skipped() };
            trials.push(trial(
                "persistence",
                "data_survives_pod_deletion",
                mode,
                variant,
                outcome,
            ));
        }
        trials.push(trial(
            "scaling",
            "six_to_ten_and_back_again_under_load",
            "cluster",
            "rpm",
            failed(),
        ));
        trials
    }

    #[test]
    fn the_widest_form_that_fits_is_taken() {
        for width in [120, 76, 44, 36] {
            let text = table(&trials(), Style::PLAIN.within(Some(width)));
            insta::assert_snapshot!(format!("at_{width}_columns"), text);
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in super::super::layout::LEAST_WIDTH..130 {
            let text = table(&trials(), Style::PLAIN.within(Some(width)));
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(width), "{width}:\n{text}");
        }
    }

    #[test]
    fn a_log_has_the_whole_table() {
        let text = table(&trials(), Style::PLAIN);
        assert!(
            text.contains("scaling::six_to_ten_and_back_again_under_load  ·"),
            "{text}"
        );
        assert!(text.contains("standalone-hardened"), "{text}");
    }
}
