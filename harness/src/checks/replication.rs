//! Every replica's link is up and its offset catches up; with auth, every node knows the password for its primary.
//!
//! `cluster_state:ok` says nothing about any of this: a cluster whose replicas cannot authenticate is ok, and loses
//! everything with its first primary.

use super::Violation;
use crate::valkey::info::Role;
use crate::valkey::observation::{ClusterObservation, Mode};
use crate::valkey::view::NodeView;

/// The check's name.
pub const NAME: &str = "replication";

/// How far a replica may be behind an idle primary: the views are taken at slightly different moments, and the stream
/// carries a 14-byte PING every `repl-ping-replica-period` (10 s) and small REPLCONF GETACKs.
pub const IDLE_LAG_BYTES: i64 = 256;

const ROTATING: &str = "the password is being changed";
const SYNCING: &str = "a replica synchronises, 5 s and more after cluster_state:ok";

/// Replicas without a link, behind, or attached to nobody; nodes that could not authenticate to a primary.
pub fn check(observation: &ClusterObservation) -> Vec<Violation> {
    if observation.expected.mode == Mode::Standalone {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (pod, view) in observation.answered() {
        violations.extend(primary_auth(observation, pod, view));
        match view.replication.role {
            Role::Replica => violations.extend(link(observation, pod, view)),
            Role::Primary => violations.extend(attached(observation, pod, view)),
        }
    }
    violations
}

/// For a moment when nobody writes: each replica has applied all its primary sent, and holds as many keys.
pub fn check_quiescent(observation: &ClusterObservation) -> Vec<Violation> {
    let mut violations = check(observation);
    for (pod, view) in observation.answered() {
        let Some((primary_pod, primary)) = primary_of(observation, view) else {
            continue;
        };
        let lag = primary.replication.offset - view.replication.replica_offset.unwrap_or(0);
        if lag > IDLE_LAG_BYTES {
            let seen = format!("{lag} bytes behind");
            let expected = format!("at {primary_pod}'s offset {}", primary.replication.offset);
            violations.push(
                Violation::new(NAME, pod, expected, seen)
                    .from_pod(pod)
                    .legal_while(SYNCING),
            );
        }
        if view.dbsize != primary.dbsize {
            let expected = format!("{} keys, as its primary {primary_pod}", primary.dbsize);
            let seen = format!("{} keys", view.dbsize);
            violations.push(
                Violation::new(NAME, pod, expected, seen)
                    .from_pod(pod)
                    .legal_while(SYNCING),
            );
        }
    }
    violations
}

/// The pod and view of the primary that the node's own CLUSTER NODES names.
fn primary_of<'a>(observation: &'a ClusterObservation, view: &NodeView) -> Option<(&'a str, &'a NodeView)> {
    let id = view.nodes.as_ref()?.myself()?.primary.as_deref()?;
    let pod = observation.pod_of_node(id)?;
    observation.answered().find(|(name, _)| *name == pod)
}

/// Any node may have to follow another after a failover, so a primary's password for primaries counts as much as a
/// replica's.
fn primary_auth(observation: &ClusterObservation, pod: &str, view: &NodeView) -> Option<Violation> {
    if !observation.expected.auth || observation.expected.replicas_per_primary == 0 {
        return None;
    }
    let expected = "primaryauth (masterauth) set, as clients need a password";
    if view.primary_auth_set == Some(false) {
        let missing = Violation::new(NAME, pod, expected, "it is not set").from_pod(pod);
        return Some(
            missing.with_evidence("a replica without it cannot synchronise: its primary answers NOAUTH"),
        );
    }
    let expected = "primaryauth (masterauth) to be the password that clients need";
    (view.primary_auth_matches == Some(false)).then(|| {
        Violation::new(NAME, pod, expected, "it is another one")
            .from_pod(pod)
            .legal_while(ROTATING)
            .with_evidence("a replica with it cannot synchronise: its primary answers WRONGPASS")
    })
}

fn link(observation: &ClusterObservation, pod: &str, view: &NodeView) -> Vec<Violation> {
    let followed = view
        .nodes
        .as_ref()
        .and_then(|nodes| nodes.myself()?.primary.as_deref());
    let host = view.replication.primary_host.as_deref();
    let primary = followed.map_or_else(
        || host.unwrap_or("its primary").to_owned(),
        |id| observation.node_name(id),
    );
    let mut violations = Vec::new();
    violations.extend(link_down(observation, pod, view, &primary));
    violations.extend(stale_address(observation, pod, view, &primary));
    violations
}

fn link_down(
    observation: &ClusterObservation,
    pod: &str,
    view: &NodeView,
    primary: &str,
) -> Option<Violation> {
    let replication = &view.replication;
    if replication.link_up == Some(true) {
        return None;
    }
    let since = replication
        .link_down_since_seconds
        .map(|s| format!(" for {s} s"))
        .unwrap_or_default();
    let doing = if replication.sync_in_progress {
        ", synchronising"
    } else {
        ""
    };
    let expected = format!("its link to {primary} up");
    let violation = Violation::new(NAME, pod, expected, format!("down{since}{doing}")).from_pod(pod);
    let no_password = view.primary_auth_set == Some(false) && observation.expected.auth;
    Some(if no_password {
        // No amount of waiting heals it.
        violation.with_evidence("cause: primaryauth (masterauth) is not set")
    } else {
        violation.legal_while(SYNCING)
    })
}

/// A replica that follows an address its primary's pod no longer has.
fn stale_address(
    observation: &ClusterObservation,
    pod: &str,
    view: &NodeView,
    primary: &str,
) -> Option<Violation> {
    let (primary_pod, _) = primary_of(observation, view)?;
    let current = observation
        .pods
        .iter()
        .find(|facts| facts.name == primary_pod)?
        .ip
        .as_deref()?;
    let host = view.replication.primary_host.as_deref()?;
    if host == current || host.parse::<std::net::IpAddr>().is_err() {
        return None;
    }
    let expected = format!("to follow {primary} at its current address {current}");
    Some(
        Violation::new(NAME, pod, expected, format!("follows {host}"))
            .from_pod(pod)
            .legal_while("a primary came back on a new address"),
    )
}

/// A primary counts as many attached replicas as the cluster gives it.
fn attached(observation: &ClusterObservation, pod: &str, view: &NodeView) -> Option<Violation> {
    let nodes = view.nodes.as_ref()?;
    let myself = nodes.myself()?;
    // A node that is no pod's any more attaches to nobody: that it is still known is for other checks to say.
    let replicas = || {
        let all = nodes.replicas_of(&myself.id);
        all.filter(|node| observation.pod_of_node(&node.id).is_some())
    };
    let expected = replicas().count();
    let online = view
        .replication
        .replicas
        .iter()
        .filter(|replica| replica.state == "online")
        .count();
    (online < expected).then(|| {
        let names: Vec<String> = replicas().map(|node| observation.node_name(&node.id)).collect();
        Violation::new(
            NAME,
            pod,
            format!("{expected} replicas online ({})", names.join(", ")),
            online.to_string(),
        )
        .from_pod(pod)
        .legal_while(SYNCING)
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn a_link_that_is_down_names_the_primary_and_the_cause() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_info(
            "valkey-4",
            "master_link_status:up",
            "master_link_status:down\r\nmaster_link_down_since_seconds:7",
        );
        let violations = check(&fixture.observation());
        assert_eq!(violations.len(), 1);
        assert_eq!(
            violations[0].to_string(),
            "replication: valkey-4: expected its link to valkey-1 (11111111) up, saw down for 7 s (as valkey-4 sees it)"
        );
    }

    #[test]
    fn a_node_without_primaryauth_is_named_whatever_its_role() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.primary_auth_set.insert("valkey-0".to_owned(), false);
        let observation = fixture.observation();
        let violations = check(&observation);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].seen, "it is not set");
        assert_eq!(violations[0].legal_while, None, "no amount of waiting heals it");
        let mut without_auth = observation;
        without_auth.expected.auth = false;
        assert_eq!(check(&without_auth), []);
    }

    #[test]
    fn a_password_for_primaries_that_was_not_rotated_is_named_whatever_the_nodes_role() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.stale_primary_auth.insert("valkey-0".to_owned());
        let observation = fixture.observation();
        let violations = check(&observation);
        assert_eq!(violations.len(), 1);
        assert_eq!(
            (violations[0].subject.as_str(), violations[0].seen.as_str()),
            ("valkey-0", "it is another one")
        );
        assert_eq!(violations[0].legal_while.as_deref(), Some(ROTATING));
        let mut bare = observation;
        bare.expected.replicas_per_primary = 0;
        assert_eq!(check(&bare), [], "nobody follows anybody");
    }

    #[test]
    fn a_replica_that_is_not_attached_is_missed_by_its_primary() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_info("valkey-2", "state=online", "state=wait_bgsave");
        let violations = check(&fixture.observation());
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].expected, "1 replicas online (valkey-5 (55555555))");
    }

    #[test]
    fn a_replica_that_was_removed_and_not_forgotten_is_not_waited_for() {
        let mut fixture = Fixture::cluster(6, 1);
        let removed = "f".repeat(40);
        let primary = super::super::fixture::id(2);
        let line = format!("{removed} :0@0 slave,fail,noaddr {primary} 0 0 3 disconnected");
        fixture.append("valkey-2", &line);
        assert_eq!(check(&fixture.observation()), []);
    }

    #[test]
    fn a_replica_that_follows_a_stale_address_is_named() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_info("valkey-3", "master_host:10.244.0.10", "master_host:10.244.0.88");
        let violations = check(&fixture.observation());
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].seen, "follows 10.244.0.88");
    }

    #[test]
    fn at_quiesce_offsets_and_key_counts_are_equal() {
        let mut fixture = Fixture::cluster(6, 1);
        assert_eq!(check_quiescent(&fixture.observation()), []);
        fixture.edit_info("valkey-3", "slave_repl_offset:140", "slave_repl_offset:126");
        assert_eq!(
            check_quiescent(&fixture.observation()),
            [],
            "one idle ping behind"
        );
        fixture.edit_info("valkey-0", "master_repl_offset:140", "master_repl_offset:99140");
        fixture.dbsize.insert("valkey-0".to_owned(), 10);
        let violations = check_quiescent(&fixture.observation());
        let seen: Vec<&str> = violations
            .iter()
            .map(|violation| violation.seen.as_str())
            .collect();
        assert_eq!(seen, ["99014 bytes behind", "0 keys"]);
    }
}
