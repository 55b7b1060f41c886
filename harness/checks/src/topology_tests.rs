//! Tests of one broken promise at a time, and of the legal topologies.

use super::super::fixture::{Fixture, id};
use super::*;

fn only(violations: Vec<Violation>) -> Violation {
    let [violation] =
        <[Violation; 1]>::try_from(violations).unwrap_or_else(|all| panic!("not exactly one: {all:#?}"));
    violation
}

#[test]
fn seven_pods_with_one_replica_form_three_primaries() {
    let observation = Fixture::cluster(7, 1).observation();
    let (_, nodes) = observation.node_tables().next().expect("a view");
    let replicas: Vec<usize> = nodes
        .primaries()
        .map(|primary| nodes.replicas_of(&primary.id).count())
        .collect();
    assert_eq!(replicas, [2, 1, 1]);
    assert_eq!(check(&observation), []);
}

#[test]
fn a_primary_without_its_replica_is_named_with_its_slots() {
    let mut fixture = Fixture::cluster(6, 1);
    let moved = (format!("slave {}", id(1)), format!("slave {}", id(0)));
    fixture.edit_all(&moved.0, &moved.1);
    for ordinal in 0..6 {
        let shards = fixture.shards_mut(&format!("valkey-{ordinal}"));
        let replica = shards[1].nodes.pop().expect("its replica");
        shards[0].nodes.push(replica);
    }
    let violation = only(check(&fixture.observation()));
    assert_eq!(
        violation.subject,
        "replicas of valkey-1 (11111111), owner of slots 5461-10922"
    );
    assert_eq!(
        (violation.expected.as_str(), violation.seen.as_str()),
        ("at least 1", "0 []")
    );
    assert_eq!(violation.viewed_from.len(), 6);
}

#[test]
fn a_node_that_sees_another_role_is_named() {
    let mut fixture = Fixture::cluster(9, 2);
    fixture.edit(
        "valkey-7",
        &format!("{} 10.244.0.13:6379@16379 slave {}", id(3), id(0)),
        &format!("{} 10.244.0.13:6379@16379 slave {}", id(3), id(2)),
    );
    let violations = check(&fixture.observation());
    let roles: Vec<_> = violations
        .iter()
        .filter(|violation| violation.subject.starts_with("role of"))
        .collect();
    assert_eq!(roles.len(), 1);
    assert_eq!(
        roles[0].to_string(),
        "topology: role of valkey-3 (33333333): expected replica of valkey-0 (00000000), as 8 of 9 nodes say, \
         saw replica of valkey-2 (22222222) (as valkey-7 sees it)"
    );
}

#[test]
fn colliding_epochs_are_named_with_their_primaries() {
    let mut fixture = Fixture::cluster(6, 1);
    fixture.edit_all("0 1000 3 connected", "0 1000 2 connected");
    let violation = only(check(&fixture.observation()));
    assert_eq!(violation.subject, "config epoch 2");
    assert_eq!(
        violation.seen,
        "valkey-1 (11111111), valkey-2 (22222222) share it"
    );
}

#[test]
fn an_empty_primary_is_not_a_shard() {
    let mut fixture = Fixture::cluster(6, 1);
    fixture.edit_all(" 10923-16383", "");
    fixture.edit_all("5461-10922", "5461-16383");
    let violations = check(&fixture.observation());
    let seen: Vec<&str> = violations
        .iter()
        .map(|violation| violation.seen.as_str())
        .collect();
    assert!(
        seen.contains(&"2") && seen.contains(&"a primary without slots"),
        "{violations:#?}"
    );
}

#[test]
fn a_shard_id_of_its_own_is_a_replica_that_can_never_be_elected() {
    let mut fixture = Fixture::cluster(6, 1);
    let shards = fixture.shards_mut("valkey-4");
    let stray = shards[1].nodes.pop().expect("its replica");
    shards.push(valkey::cluster_shards::Shard {
        id: Some("shard-9".to_owned()),
        nodes: vec![stray],
        ..Default::default()
    });
    let violations = check(&fixture.observation());
    assert!(
        violations.iter().any(|violation| violation.to_string()
            == "topology: shard id of valkey-4 (44444444): expected shard-1, as 5 of 6 nodes say, saw shard-9 \
                (as valkey-4 sees it)"),
        "{violations:#?}"
    );
    assert!(
        violations
            .iter()
            .all(|violation| violation.viewed_from == ["valkey-4"])
    );
}

#[test]
fn a_role_that_replication_does_not_follow_is_named() {
    let mut fixture = Fixture::cluster(6, 1);
    fixture.edit_info("valkey-5", "role:slave", "role:master");
    let violation = only(check(&fixture.observation()));
    assert_eq!(violation.subject, "valkey-5");
    assert_eq!(violation.seen, "role primary in info replication");
}

#[test]
fn a_standalone_server_follows_nobody() {
    let mut fixture = Fixture::standalone();
    fixture.edit_info("valkey-0", "role:master", "role:slave\r\nmaster_host:10.9.9.9");
    assert_eq!(only(check(&fixture.observation())).seen, "a replica of 10.9.9.9");
}
