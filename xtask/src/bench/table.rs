//! Figures, their targets, and their rendering. This module takes no measurements.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::stats::median;

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Mebibytes,
}

/// The goal of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// At most this value, at any floor.
    AtMost(f64),
    /// At most this many times the floor.
    TimesFloor(f64),
    /// At least this many times the floor. Here the floor is the time of our own code.
    AtLeastTimesFloor(f64),
    /// No target; the figure is only for comparison.
    None,
}

/// One measured number next to its floor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) measured: f64,
    pub(super) floor: f64,
    /// The meaning of the floor, in words.
    pub(super) floor_is: &'static str,
    pub(super) target: Goal,
}

impl Figure {
    fn ratio(&self) -> f64 {
        self.measured / self.floor
    }

    /// Returns true if the target is met; `None` for a figure without a target.
    fn is_met(&self) -> Option<bool> {
        match self.target {
            Goal::AtMost(most) => Some(self.measured <= most),
            Goal::TimesFloor(times) => Some(self.ratio() <= times),
            Goal::AtLeastTimesFloor(times) => Some(self.ratio() >= times),
            Goal::None => None,
        }
    }

    fn cells(&self) -> [String; 6] {
        let target = match self.target {
            Goal::AtMost(most) => format!("≤ {}", amount(most, self.unit)),
            Goal::TimesFloor(times) => format!("≤ {times} × floor"),
            Goal::AtLeastTimesFloor(times) => format!("≥ {times} × floor"),
            Goal::None => "-".to_owned(),
        };
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "-",
        };
        [
            self.name.to_owned(),
            amount(self.measured, self.unit),
            amount(self.floor, self.unit),
            format!("{:.2}", self.ratio()),
            target,
            met.to_owned(),
        ]
    }
}

/// Returns the median of several runs for each figure. The run with the median ratio is used whole,
/// so that figure and floor belong together.
pub(super) fn medians(runs: Vec<Vec<Figure>>) -> Vec<Figure> {
    let names: Vec<&str> = runs
        .first()
        .into_iter()
        .flatten()
        .map(|figure| figure.name)
        .collect();
    let all: Vec<Figure> = runs.into_iter().flatten().collect();
    let middle = |name: &str| {
        let same: Vec<&Figure> = all.iter().filter(|figure| figure.name == name).collect();
        let ratios: Vec<f64> = same.iter().map(|figure| figure.ratio()).collect();
        let wanted = median(&ratios);
        same.into_iter().find(|figure| figure.ratio() == wanted).cloned()
    };
    names.into_iter().filter_map(middle).collect()
}

/// Renders the table for people, with the meaning of each floor below.
pub(super) fn render(figures: &[Figure]) -> String {
    let head = ["figure", "measured", "floor", "ratio", "target", ""].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head)
        .chain(figures.iter().map(Figure::cells))
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for column in 1..6 {
            let (cell, width) = (&row[column], widths[column]);
            // Numbers are right-aligned, words left-aligned.
            let padded = if column < 4 {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            };
            line = format!("{line}  {padded}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str("\nfloors:\n");
    let mut said = Vec::new();
    for figure in figures.iter().filter(|figure| !figure.floor_is.is_empty()) {
        if !said.contains(&figure.floor_is) {
            said.push(figure.floor_is);
            writeln!(text, "  {}: {}", figure.name, figure.floor_is)
                .expect("writing to a string does not fail");
        }
    }
    text
}

/// Renders the figures for programs.
pub(super) fn to_json(figures: &[Figure]) -> Value {
    let figures: Vec<Value> = figures
        .iter()
        .map(|figure| {
            let (target, relative) = match figure.target {
                Goal::AtMost(most) => (json!(most), json!(null)),
                Goal::TimesFloor(times) | Goal::AtLeastTimesFloor(times) => (json!(null), json!(times)),
                Goal::None => (json!(null), json!(null)),
            };
            json!({
                "name": figure.name,
                "unit": suffix(figure.unit),
                "measured": figure.measured,
                "floor": figure.floor,
                "floor_is": figure.floor_is,
                "ratio": figure.ratio(),
                "target": target,
                "target_ratio": relative,
                "met": figure.is_met(),
            })
        })
        .collect();
    json!({"development_build": cfg!(debug_assertions), "figures": figures})
}

fn suffix(unit: Unit) -> &'static str {
    match unit {
        Unit::Milliseconds => "ms",
        Unit::Mebibytes => "MiB",
    }
}

/// Renders a number with up to three significant digits.
fn amount(value: f64, unit: Unit) -> String {
    let digits = match value {
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", suffix(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(measured: f64, floor: f64, target: Goal) -> Figure {
        Figure {
            name: "a row",
            unit: Unit::Milliseconds,
            measured,
            floor,
            floor_is: "the least there is",
            target,
        }
    }

    #[test]
    fn a_target_is_an_amount_or_a_multiple_of_the_floor() {
        assert_eq!(figure(5.0, 1.0, Goal::AtMost(5.0)).is_met(), Some(true));
        assert_eq!(figure(5.1, 1.0, Goal::AtMost(5.0)).is_met(), Some(false));
        assert_eq!(figure(13.0, 10.0, Goal::TimesFloor(1.3)).is_met(), Some(true));
        assert_eq!(figure(14.0, 10.0, Goal::TimesFloor(1.3)).is_met(), Some(false));
        assert_eq!(figure(14.0, 10.0, Goal::None).is_met(), None);
        assert_eq!(
            figure(14.0, 0.1, Goal::AtLeastTimesFloor(140.0)).is_met(),
            Some(true)
        );
        assert_eq!(
            figure(14.0, 0.1, Goal::AtLeastTimesFloor(141.0)).is_met(),
            Some(false)
        );
    }

    #[test]
    fn several_runs_are_the_one_with_the_middle_ratio() {
        let runs = [(9.0, 1.0), (4.0, 2.0), (50.0, 10.0)];
        let runs = runs.map(|(measured, floor)| vec![figure(measured, floor, Goal::None)]);
        assert_eq!(medians(runs.to_vec()), [figure(50.0, 10.0, Goal::None)]);
        assert!(medians(Vec::new()).is_empty());
    }

    #[test]
    fn the_table_lines_up_and_says_what_was_missed() {
        let figures = [
            figure(187.4, 12.34, Goal::AtMost(250.0)),
            figure(7.0, 0.5, Goal::AtMost(5.0)),
            figure(7.0, 3.5, Goal::None),
        ];
        let expected = "\
figure  measured    floor  ratio  target
a row     187 ms  12.3 ms  15.19  ≤ 250 ms   met
a row    7.00 ms  0.50 ms  14.00  ≤ 5.00 ms  missed
a row    7.00 ms  3.50 ms   2.00  -          -

floors:
  a row: the least there is
";
        assert_eq!(render(&figures), expected);
    }

    #[test]
    fn programs_get_numbers_and_the_verdict() {
        let document = to_json(&[figure(13.0, 10.0, Goal::TimesFloor(1.2))]);
        let figure = &document["figures"][0];
        assert_eq!(figure["ratio"], 1.3);
        assert_eq!(figure["met"], false);
        assert_eq!(figure["target"], Value::Null);
        assert_eq!(figure["target_ratio"], 1.2);
    }
}
