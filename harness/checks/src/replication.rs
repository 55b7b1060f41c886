//! Every replica's link is up and its offset catches up. With auth, every node knows the password
//! for its primary.
//!
//! `cluster_state:ok` covers none of this. A cluster with unauthenticated replicas is ok, and loses
//! everything with its first primary.

use super::Violation;
use valkey::info::Role;
use valkey::observation::{ClusterObservation, Mode};
use valkey::view::NodeView;

/// The check's name.
pub const NAME: &str = "replication";

/// Bytes that a replica may be behind an idle primary, as the views are of different moments. The
/// stream carries a 14-byte PING each `repl-ping-replica-period` (10 s) and REPLCONF GETACKs.
pub const IDLE_LAG_BYTES: i64 = 256;

/// Finds replicas that have no link, are behind, or are attached to nobody. Also finds nodes that
/// could not authenticate to a primary.
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

/// Replicas that lag behind their primary, or hold another number of keys, at a moment when nobody
/// writes. A replica without a link is left to [`check`].
pub fn check_caught_up(observation: &ClusterObservation) -> Vec<Violation> {
    let mut violations = Vec::new();
    let linked = |view: &NodeView| view.replication.link_up == Some(true);
    for (pod, view) in observation.answered().filter(|(_, view)| linked(view)) {
        let Some((primary_pod, primary)) = primary_of(observation, view) else {
            continue;
        };
        let lag = primary.replication.offset - view.replication.replica_offset.unwrap_or(0);
        if lag > IDLE_LAG_BYTES {
            let seen = format!("{lag} bytes behind");
            let expected = format!("at {primary_pod}'s offset {}", primary.replication.offset);
            violations.push(Violation::new(NAME, pod, expected, seen).from_pod(pod));
        }
        if view.dbsize != primary.dbsize {
            let expected = format!("{} keys, as its primary {primary_pod}", primary.dbsize);
            let seen = format!("{} keys", view.dbsize);
            violations.push(Violation::new(NAME, pod, expected, seen).from_pod(pod));
        }
    }
    violations
}

/// Returns the pod and view of the primary that the node's own CLUSTER NODES names.
fn primary_of<'a>(observation: &'a ClusterObservation, view: &NodeView) -> Option<(&'a str, &'a NodeView)> {
    let id = view.nodes.as_ref()?.myself()?.primary.as_deref()?;
    let pod = observation.pod_of_node(id)?;
    observation.answered().find(|(name, _)| *name == pod)
}

/// Checks the password for the primary on every node, not only on replicas. Any node may have to
/// follow another after a failover.
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
    let since = match replication.link_down_since_seconds {
        // Valkey's -1.
        Some(..0) => ", never up".to_owned(),
        Some(seconds) => format!(" for {seconds} s"),
        None => String::new(),
    };
    let doing = if replication.sync_in_progress {
        ", synchronising"
    } else {
        ""
    };
    let expected = format!("its link to {primary} up");
    let violation = Violation::new(NAME, pod, expected, format!("down{since}{doing}")).from_pod(pod);
    let no_password = view.primary_auth_set == Some(false) && observation.expected.auth;
    Some(if no_password {
        // Waiting does not heal a missing setting.
        violation.with_evidence("cause: primaryauth (masterauth) is not set")
    } else {
        violation
    })
}

/// Finds a replica that follows an address its primary's pod no longer has.
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
    Some(Violation::new(NAME, pod, expected, format!("follows {host}")).from_pod(pod))
}

/// Checks that a primary counts as many attached replicas as the cluster gives it.
fn attached(observation: &ClusterObservation, pod: &str, view: &NodeView) -> Option<Violation> {
    let nodes = view.nodes.as_ref()?;
    let myself = nodes.myself()?;
    // A node without a pod attaches to nobody. Other checks report that the cluster still knows the
    // node.
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
    fn a_link_that_was_never_up_is_not_down_for_a_negative_time() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_info(
            "valkey-4",
            "master_link_status:up",
            "master_link_status:down\r\nmaster_link_down_since_seconds:-1",
        );
        assert_eq!(check(&fixture.observation())[0].seen, "down, never up");
    }

    #[test]
    fn a_node_without_primaryauth_is_named_whatever_its_role() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.primary_auth_set.insert("valkey-0".to_owned(), false);
        let observation = fixture.observation();
        let violations = check(&observation);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].seen, "it is not set");
        let mut without_auth = observation;
        without_auth.expected.auth = false;
        assert_eq!(check(&without_auth), []);
    }

    #[test]
    fn a_password_for_primaries_that_was_not_rotated_is_named() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.stale_primary_auth.insert("valkey-0".to_owned());
        let observation = fixture.observation();
        let violations = check(&observation);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].subject, "valkey-0");
        assert_eq!(violations[0].seen, "it is another one");
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
    fn a_removed_replica_that_is_not_forgotten_is_not_waited_for() {
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
    fn a_linked_replica_reaches_its_primarys_offset_and_keys() {
        let mut fixture = Fixture::cluster(6, 1);
        assert_eq!(check_caught_up(&fixture.observation()), []);
        fixture.edit_info("valkey-3", "slave_repl_offset:140", "slave_repl_offset:126");
        assert_eq!(
            check_caught_up(&fixture.observation()),
            [],
            "one idle ping behind"
        );
        fixture.edit_info("valkey-0", "master_repl_offset:140", "master_repl_offset:99140");
        fixture.dbsize.insert("valkey-0".to_owned(), 10);
        let violations = check_caught_up(&fixture.observation());
        let seen: Vec<&str> = violations
            .iter()
            .map(|violation| violation.seen.as_str())
            .collect();
        assert_eq!(seen, ["99014 bytes behind", "0 keys"]);
        fixture.edit_info("valkey-3", "master_link_status:up", "master_link_status:down");
        assert_eq!(
            check_caught_up(&fixture.observation()),
            [],
            "the link is what is wrong"
        );
    }
}
