//! Every suite, and the trials that follow from them: one per scenario and combination that it fits.

use harness::trial::TrialId;
use manifests::{Mode, Variant};

use crate::scenario::{Scenario, Suite};
use crate::{connection, examples, formation, persistence, rotation, scaling, security, upgrades};

/// Every suite, in the order in which the report shows them.
pub const SUITES: [&Suite; 8] = [
    &formation::SUITE,
    &connection::SUITE,
    &security::SUITE,
    &persistence::SUITE,
    &scaling::SUITE,
    &rotation::SUITE,
    &upgrades::SUITE,
    &examples::SUITE,
];

/// A scenario in one combination.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Which one it is.
    pub id: TrialId,
    /// What it does.
    pub scenario: Scenario,
}

/// Every trial there is.
pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for suite in SUITES {
        for scenario in suite.scenarios {
            for mode in Mode::ALL {
                let variants = Variant::ALL
                    .into_iter()
                    .filter(|variant| (scenario.fits)(mode, *variant));
                trials.extend(variants.map(|variant| Trial {
                    id: TrialId {
                        suite: suite.name,
                        scenario: scenario.name,
                        mode,
                        variant,
                    },
                    scenario: *scenario,
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
        let names: Vec<String> = trials().iter().map(|trial| trial.id.to_string()).collect();
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
