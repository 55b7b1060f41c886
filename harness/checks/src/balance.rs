//! The slots are evenly distributed: each primary has 16384/N of them, within two percent.

use super::Violation;
use valkey::observation::{ClusterObservation, Mode};
use valkey::slots::SLOT_COUNT;

/// The check's name.
pub const NAME: &str = "balance";

/// The default threshold of `valkey-cli --cluster rebalance`, which leaves a cluster within 2 %
/// alone.
pub const TOLERANCE: f64 = 0.02;

/// Finds primaries that own too many or too few slots according to their own views.
pub fn check(observation: &ClusterObservation) -> Vec<Violation> {
    let primaries = observation.expected.primaries();
    if observation.expected.mode == Mode::Standalone || primaries == 0 {
        return Vec::new();
    }
    let share = f64::from(SLOT_COUNT) / f64::from(primaries);
    // A fractional share is rounded: 5461, 5462, 5461.
    let low = (share * (1.0 - TOLERANCE)).floor().min(share.floor());
    let high = (share * (1.0 + TOLERANCE)).ceil().max(share.ceil());
    let mut violations = Vec::new();
    for (pod, nodes) in observation.node_tables() {
        let Some(myself) = nodes.myself().filter(|myself| myself.is_primary()) else {
            continue;
        };
        let owned = myself.slots.len() as f64;
        if owned < low || owned > high {
            violations.push(
                Violation::new(NAME, pod, format!("{low} to {high} slots"), format!("{owned}"))
                    .from_pod(pod)
                    .with_evidence(format!("it owns {}", myself.slots)),
            );
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn a_primary_outside_two_percent_is_named_with_its_slots() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_all(" 0-5460", " 0-5000");
        fixture.edit_all(" 5461-10922", " 5001-10922");
        let violations = check(&fixture.observation());
        let seen: Vec<(&str, &str)> = violations
            .iter()
            .map(|violation| (violation.subject.as_str(), violation.seen.as_str()))
            .collect();
        assert_eq!(seen, [("valkey-0", "5001"), ("valkey-1", "5922")]);
        assert_eq!(violations[0].expected, "5352 to 5571 slots");
        assert_eq!(violations[0].evidence, ["it owns 0-5000"]);
    }

    #[test]
    fn within_two_percent_after_a_rebalance_is_balanced() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_all(" 0-5460", " 0-5360");
        fixture.edit_all(" 5461-10922", " 5361-10922");
        assert_eq!(check(&fixture.observation()), []);
    }

    #[test]
    fn a_new_primary_without_slots_is_not_balanced() {
        let mut fixture = Fixture::cluster(8, 1);
        fixture.edit_all(" 12288-16383", "");
        assert_eq!(check(&fixture.observation())[0].seen, "0");
    }
}
