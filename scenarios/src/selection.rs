//! The selection of trials that a user asked for. A request that matches no trial is an error with
//! suggestions, never an empty run.

use manifests::{Mode, Variant};

use crate::registry::Trial;

/// Number of suggestions in an error.
const SUGGESTIONS: usize = 3;

/// Likeness of a suggestion to the typed pattern that is required, from 0 (unlike) to 1 (equal).
const LIKENESS: f64 = 0.6;

/// The requested selection; an empty list selects everything.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only these modes.
    pub modes: Vec<Mode>,
    /// Only these variants.
    pub variants: Vec<Variant>,
    /// Only trials with one of these patterns in their name.
    pub patterns: Vec<String>,
}

/// The reason why a selection selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// No trial's name contains the pattern.
    #[error("no scenario matches {pattern:?}{}", suggestions(near))]
    Unknown {
        /// The requested pattern.
        pattern: String,
        /// The nearest names.
        near: Vec<String>,
    },
    /// Trials match each part of the request, but none matches all of it.
    #[error("no trial is left: {pattern:?} fits only {}", fits.join(", "))]
    Excluded {
        /// The requested pattern.
        pattern: String,
        /// The combinations that the pattern fits.
        fits: Vec<String>,
    },
}

/// Selects from `all`. Every pattern must select something.
pub fn select(all: Vec<Trial>, selection: &Selection) -> Result<Vec<Trial>, SelectionError> {
    let wanted = |trial: &Trial| {
        (selection.modes.is_empty() || selection.modes.contains(&trial.id.mode))
            && (selection.variants.is_empty() || selection.variants.contains(&trial.id.variant))
    };
    for pattern in &selection.patterns {
        let matching: Vec<&Trial> = all.iter().filter(|trial| matches(trial, pattern)).collect();
        if matching.is_empty() {
            return Err(SelectionError::Unknown {
                pattern: pattern.clone(),
                near: near(&all, pattern),
            });
        }
        if !matching.iter().any(|trial| wanted(trial)) {
            let combination =
                |trial: &&Trial| format!("{}-{}", trial.id.mode.as_str(), trial.id.variant.as_str());
            let mut fits: Vec<String> = matching.iter().map(combination).collect();
            fits.sort();
            fits.dedup();
            return Err(SelectionError::Excluded {
                pattern: pattern.clone(),
                fits,
            });
        }
    }
    let named = |trial: &Trial| {
        selection.patterns.is_empty() || selection.patterns.iter().any(|pattern| matches(trial, pattern))
    };
    Ok(all
        .into_iter()
        .filter(|trial| wanted(trial) && named(trial))
        .collect())
}

fn matches(trial: &Trial, pattern: &str) -> bool {
    !pattern.is_empty() && trial.id.to_string().contains(pattern)
}

/// Returns the names nearest to the typed pattern: of suites, scenarios and `suite::scenario`.
fn near(all: &[Trial], pattern: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for trial in all {
        let full = format!("{}::{}", trial.id.suite, trial.id.scenario);
        names.extend([trial.id.suite.to_owned(), full]);
    }
    names.sort();
    names.dedup();
    let likeness = |name: &String| {
        let scenario = name.rsplit("::").next().unwrap_or(name);
        let alike = |text: &str| strsim::jaro_winkler(text, pattern);
        alike(name).max(alike(scenario))
    };
    let mut ranked: Vec<(f64, String)> = names.into_iter().map(|name| (likeness(&name), name)).collect();
    ranked.retain(|(likeness, _)| *likeness >= LIKENESS);
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    ranked
        .into_iter()
        .take(SUGGESTIONS)
        .map(|(_, name)| name)
        .collect()
}

fn suggestions(near: &[String]) -> String {
    if near.is_empty() {
        String::new()
    } else {
        format!("; near it: {}", near.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::trials;

    fn names(selection: &Selection) -> Result<Vec<String>, SelectionError> {
        Ok(select(trials(), selection)?
            .iter()
            .map(|trial| trial.id.to_string())
            .collect())
    }

    fn patterns(patterns: &[&str]) -> Selection {
        let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Selection {
            patterns,
            ..Selection::default()
        }
    }

    #[test]
    fn nothing_asked_for_is_everything() {
        assert_eq!(names(&Selection::default()).unwrap().len(), trials().len());
    }

    #[test]
    fn a_pattern_is_part_of_a_name() {
        let selection = Selection {
            modes: vec![Mode::Cluster],
            ..patterns(&["formation::forms"])
        };
        assert_eq!(
            names(&selection).unwrap(),
            [
                "formation::forms::cluster-rpm",
                "formation::forms::cluster-hardened"
            ]
        );
    }

    #[test]
    fn a_misspelt_pattern_gets_the_nearest_names() {
        let error = names(&patterns(&["fromation::forms"])).unwrap_err();
        let SelectionError::Unknown { near, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(near.contains(&"formation::forms".to_owned()), "{error}");
        assert_eq!(
            names(&patterns(&["zzzz"])).unwrap_err().to_string(),
            "no scenario matches \"zzzz\""
        );
    }

    #[test]
    fn one_pattern_of_two_that_matches_nothing_is_an_error_too() {
        assert!(names(&patterns(&["forms", "nothing_like_this"])).is_err());
    }

    #[test]
    fn a_scenario_that_does_not_fit_the_mode_says_what_it_fits() {
        let selection = Selection {
            modes: vec![Mode::Standalone],
            ..patterns(&["nine_nodes"])
        };
        let error = names(&selection).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no trial is left: \"nine_nodes\" fits only cluster-hardened, cluster-rpm"
        );
    }
}
