//! Every suite, and its trials: one for each scenario and each combination that the scenario fits.

use harness::lifecycle::Body;
use harness::trial::TrialId;
use manifests::{Mode, Variant};

use crate::scenario::{Start, Suite};
use crate::{
    conformance, connection, examples, faults, formation, persistence, rotation, scaling, security, upgrades,
};

/// Every suite, in the order in which the report shows them.
pub const SUITES: [&Suite; 9] = [
    &formation::SUITE,
    &connection::SUITE,
    &security::SUITE,
    &persistence::SUITE,
    &faults::SUITE,
    &scaling::SUITE,
    &rotation::SUITE,
    &upgrades::SUITE,
    &examples::SUITE,
];

/// A scenario in one combination.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The identity of the trial.
    pub id: TrialId,
    /// The place of the trial in the order of starts.
    pub start: Start,
    /// The act.
    pub body: Body,
}

/// Returns the trials that every subject has.
pub fn trials() -> Vec<Trial> {
    of_suites(&SUITES)
}

/// Returns the additional trials of a chart on disk.
pub fn trials_of_charts() -> Vec<Trial> {
    let mut trials = of_suites(&[&upgrades::OF_CHARTS]);
    trials.extend(conformance::trials());
    trials
}

fn of_suites(suites: &[&Suite]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for suite in suites {
        for scenario in suite.scenarios {
            for mode in Mode::ALL {
                let variants = Variant::ALL
                    .into_iter()
                    .filter(|variant| (scenario.fits)(mode, *variant));
                trials.extend(variants.map(|variant| Trial {
                    id: TrialId {
                        suite: suite.name,
                        scenario: scenario.name.into(),
                        mode,
                        variant,
                    },
                    start: scenario.start,
                    body: Body::new(scenario.body),
                }));
            }
        }
    }
    trials
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_trial_has_a_name_of_its_own() {
        let all = trials().into_iter().chain(trials_of_charts());
        let names: Vec<String> = all.map(|trial| trial.id.to_string()).collect();
        let distinct: BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    #[test]
    fn every_combination_is_formed() {
        let formed: Vec<String> = trials()
            .iter()
            .filter(|trial| trial.id.scenario == "forms")
            .map(|trial| trial.id.to_string())
            .collect();
        assert_eq!(
            formed,
            [
                "formation::forms::standalone-rpm",
                "formation::forms::standalone-hardened",
                "formation::forms::cluster-rpm",
                "formation::forms::cluster-hardened",
            ]
        );
    }
}
