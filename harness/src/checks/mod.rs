//! The promises, one file each: observations in, every violation out.
//!
//! A check is a pure function. It never panics, never stops at the first finding, and knows nothing of scenarios.
//! What must *not* be called a failure is written, and tested, beside the rule that could.
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
//! | [`readiness`] | Ready means serving, and the reverse |
//! | [`restarts`] | no container restarts by itself |
//! | [`persistence`] | the append-only file is on, and on the claimed volume |
//! | [`services`] | the Services lead to exactly the server pods |
//! | [`disruption_budget`] | the budget covers exactly the server pods |
//! | [`security`] | the container is what its security context declares, seen from inside |
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
pub mod cluster_state;
pub mod disruption_budget;
pub mod drain;
pub mod forecast;
pub mod forgotten;
pub mod history;
pub mod last_copy;
pub mod logs;
pub mod password;
pub mod persistence;
pub mod proc_facts;
pub mod reachability;
pub mod readiness;
pub mod replication;
pub mod restarts;
pub mod security;
pub mod services;
pub mod slot_coverage;
pub mod step_back;
pub mod topology;
mod violation;

#[cfg(test)]
pub(crate) mod fixture;

use serde::{Deserialize, Serialize};
pub use violation::Violation;

use crate::valkey::observation::ClusterObservation;

/// Whether the release should be at rest at the moment of the observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Nothing is going on: every promise holds in full.
    Settled,
    /// Pods or nodes come, go or synchronise: what is legal meanwhile is not reported.
    Changing,
}

/// A check over an observation alone.
pub type Check = fn(&ClusterObservation) -> Vec<Violation>;

/// Every check that needs nothing but an observation, by name.
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

/// Runs [`OBSERVATION_CHECKS`]. In a [`Moment::Changing`], what is legal for a while is left out.
pub fn run(observation: &ClusterObservation, moment: Moment) -> Vec<Violation> {
    OBSERVATION_CHECKS
        .iter()
        .flat_map(|(_, check)| check(observation))
        .filter(|violation| moment == Moment::Settled || violation.legal_while.is_none())
        .collect()
}

/// The name of a check of [`OBSERVATION_CHECKS`].
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
            assert_eq!(run(&fixture.observation(), Moment::Settled), []);
        }
    }

    #[test]
    fn roles_are_not_ordinals() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.swap_roles("valkey-0", "valkey-3");
        assert_eq!(run(&fixture.observation(), Moment::Settled), []);
    }

    #[test]
    fn both_vocabularies_are_understood() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_all(" master ", " primary ");
        fixture.edit_all(" slave ", " replica ");
        fixture.edit_all(" myself,slave ", " replica,myself ");
        assert_eq!(run(&fixture.observation(), Moment::Settled), []);
    }

    #[test]
    fn blips_while_nodes_come_and_go_are_legal_then_and_only_then() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit(
            "valkey-1",
            " master - 0 1000 3 connected",
            " master,fail? - 0 1000 3 connected",
        );
        fixture.edit_info(
            "valkey-4",
            "master_link_status:up",
            "master_link_status:down\nmaster_sync_in_progress:1",
        );
        let observation = fixture.observation();
        assert_eq!(run(&observation, Moment::Changing), []);
        assert_eq!(run(&observation, Moment::Settled).len(), 2);
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
