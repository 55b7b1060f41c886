//! The promises, one file each: observations in, every violation out.
//!
//! A check is a pure function. It never panics, never stops at the first finding, and knows nothing
//! of scenarios. Legal states that look like failures are documented and tested next to the rule
//! that could report them.
//!
//! | check | promise |
//! |---|---|
//! | [`reachability`] | as many pods as declared, and each of them answers |
//! | [`cluster_state`] | every node's own `CLUSTER INFO` says ok, with all slots and the expected nodes |
//! | [`slot_coverage`] | every slot has exactly one live owner, the same in all views; nothing is half done |
//! | [`topology`] | the expected primaries, each with its replicas; one shard id, unique epochs |
//! | [`replication`] | every replica's link is up and it catches up; any node could become a replica |
//! | [`balance`] | the slots are shared out evenly |
//! | [`announce`] | every node is known everywhere under its pod's current address |
//! | [`bus`] | every node has a bus link to every other |
//! | [`client`] | a client in another namespace gets in, and finds every node where it is announced |
//! | [`readiness`] | Ready means serving, and the reverse |
//! | [`restarts`] | no container restarts by itself |
//! | [`persistence`] | the append-only file is on, and on the claimed volume |
//! | [`services`] | the Services lead to exactly the server pods |
//! | [`disruption_budget`] | the budget covers exactly the server pods |
//! | [`names`] | pods call each other what the objects are called, under every name of the release |
//! | [`security`] | the container is what its security context declares, seen from inside |
//! | [`secrecy`] | the password is rendered in a Secret and nowhere else |
//! | [`password`] | who gets in with which password |
//! | [`logs`] | no line in a log that means trouble |
//! | [`drain`] | a departing pod owns nothing any more |
//! | [`forecast`] | what a scale-down without draining will cost, before it is done |
//! | [`step_back`] | what a scale-up added can be taken away again without a loss |
//! | [`forgotten`] | a removed node does not come back |
//! | [`history`] | epochs only grow |
//! | [`last_copy`] | no primary is taken down while none of its replicas is in sync |

pub mod announce;
pub mod balance;
pub mod bus;
pub mod client;
pub mod cluster_state;
pub mod disruption_budget;
pub mod drain;
pub mod forecast;
pub mod forgotten;
pub mod history;
pub mod last_copy;
pub mod logs;
pub mod names;
pub mod password;
pub mod persistence;
pub mod proc_facts;
pub mod reachability;
pub mod readiness;
pub mod replication;
pub mod restarts;
pub mod secrecy;
pub mod security;
pub mod server_container;
pub mod services;
pub mod slot_coverage;
pub mod step_back;
pub mod topology;

#[cfg(any(test, feature = "fixture"))]
pub mod fixture;

pub use findings::Violation;
use valkey::observation::{ClusterObservation, Mode};
use valkey::slots::SLOT_COUNT;
use valkey::view::NodeView;

/// A check that needs only an observation.
pub type Check = fn(&ClusterObservation) -> Vec<Violation>;

/// Every check that needs only an observation, by name.
pub const OBSERVATION_CHECKS: &[(&str, Check)] = &[
    (reachability::NAME, reachability::check),
    (cluster_state::NAME, cluster_state::check),
    (slot_coverage::NAME, slot_coverage::check),
    (topology::NAME, topology::check),
    (replication::NAME, replication::check),
    (balance::NAME, balance::check),
    (announce::NAME, announce::check),
    (bus::NAME, bus::check),
    (readiness::NAME, readiness::check),
];

/// Runs [`OBSERVATION_CHECKS`]. Each holds in full once a release is at rest. While pods or nodes
/// come, go or synchronise, violations are normal.
pub fn run(observation: &ClusterObservation) -> Vec<Violation> {
    OBSERVATION_CHECKS
        .iter()
        .flat_map(|(_, check)| check(observation))
        .collect()
}

/// Returns true if the server of every pod works, whatever promises are broken. Acts on such a
/// release have something to stand on, once its pods are ready.
pub fn serves(observation: &ClusterObservation) -> bool {
    let works = |view: &NodeView| match observation.expected.mode {
        Mode::Standalone => true,
        Mode::Cluster => view
            .cluster_info
            .as_ref()
            .is_some_and(|info| info.is_ok() && info.cluster_slots_assigned == u32::from(SLOT_COUNT)),
    };
    let pods = observation.expected.pods as usize;
    observation.pods.len() == pods
        && observation.pods.iter().all(|pod| !pod.terminating)
        && observation.answered().filter(|(_, view)| works(view)).count() == pods
}

/// Returns the name of a check of [`OBSERVATION_CHECKS`].
pub fn name_of(check: Check) -> Option<&'static str> {
    OBSERVATION_CHECKS
        .iter()
        .find(|(_, known)| std::ptr::fn_addr_eq(*known, check))
        .map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::fixture::Fixture;
    use super::*;

    #[test]
    fn healthy_releases_of_every_shape_keep_every_promise() {
        for fixture in [
            Fixture::cluster(6, 1),
            Fixture::cluster(7, 1),
            Fixture::cluster(9, 2),
            Fixture::cluster(3, 0),
            Fixture::standalone(),
        ] {
            assert_eq!(run(&fixture.observation()), []);
        }
    }

    #[test]
    fn roles_are_not_ordinals() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.swap_roles("valkey-0", "valkey-3");
        assert_eq!(run(&fixture.observation()), []);
    }

    #[test]
    fn both_vocabularies_are_understood() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_all(" master ", " primary ");
        fixture.edit_all(" slave ", " replica ");
        fixture.edit_all(" myself,slave ", " replica,myself ");
        assert_eq!(run(&fixture.observation()), []);
    }

    #[test]
    fn a_release_may_serve_although_a_promise_is_broken() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.primary_auth_set.insert("valkey-0".to_owned(), false);
        assert!(!run(&fixture.observation()).is_empty() && serves(&fixture.observation()));
        let mut leaving = fixture.observation();
        leaving.pods[0].terminating = true;
        assert!(!serves(&leaving));
        let mut missing = fixture.observation();
        missing.expected.pods = 8;
        assert!(!serves(&missing));
        fixture.edit_cluster_info("valkey-3", "cluster_state:ok", "cluster_state:fail");
        assert!(!serves(&fixture.observation()));
    }

    #[test]
    fn a_check_is_known_by_its_name() {
        for (name, check) in OBSERVATION_CHECKS {
            assert_eq!(name_of(*check), Some(*name));
        }
        assert_eq!(name_of(restarts::check), None);
    }

    #[test]
    fn before_formation_nothing_is_ready_and_nothing_restarts() {
        let fixture = Fixture::unformed(6);
        let observation = fixture.observation();
        assert_eq!(readiness::check(&observation), []);
        assert_eq!(restarts::check(&observation), []);
        assert_eq!(reachability::check(&observation), []);
        assert!(!cluster_state::check(&observation).is_empty());
    }
}
