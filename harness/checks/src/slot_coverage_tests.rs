//! Tests with literal CLUSTER NODES texts, one broken promise at a time.

use super::super::fixture::Fixture;
use super::*;

fn only(violations: Vec<Violation>) -> Violation {
    let [violation] =
        <[Violation; 1]>::try_from(violations).unwrap_or_else(|all| panic!("not exactly one: {all:#?}"));
    violation
}

#[test]
fn unowned_slots_are_named_as_ranges_from_every_view() {
    let mut fixture = Fixture::cluster(6, 1);
    fixture.edit_all("5461-10922", "5461-8000 8011-10922");
    let violation = only(check(&fixture.observation()));
    assert_eq!(
        (violation.subject.as_str(), violation.seen.as_str()),
        ("slots 8001-8010 (10)", "no owner")
    );
    assert_eq!(violation.viewed_from.len(), 6);
}

#[test]
fn a_slot_claimed_twice_names_both_claimants() {
    let mut fixture = Fixture::cluster(6, 1);
    fixture.edit_all(" 10923-16383", " 10922-16383");
    let violation = only(check(&fixture.observation()));
    assert_eq!(violation.subject, "slot 10922");
    assert_eq!(
        violation.seen,
        "2 owners: valkey-1 (11111111), valkey-2 (22222222)"
    );
}

#[test]
fn a_view_that_differs_is_named_with_the_owner_it_believes_in() {
    let mut fixture = Fixture::cluster(6, 1);
    fixture.edit("valkey-4", " 0-5460", " 0-5400");
    fixture.edit("valkey-4", " 5461-10922", " 5401-10922");
    let violation = only(check(&fixture.observation()));
    assert_eq!(
        violation.to_string(),
        "slot_coverage: owner of slots 5401-5460 (60): expected valkey-0 (00000000), as 5 of 6 nodes say, \
         saw valkey-1 (11111111) (as valkey-4 sees it)"
    );
}

#[test]
fn an_open_slot_is_named_with_its_direction() {
    let mut fixture = Fixture::cluster(6, 1);
    let target = "2".repeat(40);
    fixture.edit(
        "valkey-0",
        "connected 0-5460",
        &format!("connected 0-5460 [93->-{target}]"),
    );
    let violation = only(check(&fixture.observation()));
    assert_eq!(
        violation.to_string(),
        "slot_coverage: slot 93: expected no open slot, saw valkey-0 (00000000) migrating to valkey-2 (22222222) \
         (as valkey-0 sees it)"
    );
}

#[test]
fn dead_and_half_known_entries_are_named() {
    for flags in ["slave,fail", "slave,fail?", "handshake", "slave,noaddr"] {
        let mut fixture = Fixture::cluster(6, 1);
        let dead = "d".repeat(40);
        fixture.append(
            "valkey-3",
            &format!("{dead} 10.244.0.99:6379@16379 {flags} - 0 0 0 disconnected"),
        );
        let violation = only(check(&fixture.observation()));
        assert_eq!(violation.subject, "entry of node dddddddd at 10.244.0.99:6379");
        assert!(violation.seen.starts_with("flags "), "{}", violation.seen);
        assert_eq!(violation.viewed_from, ["valkey-3"]);
    }
}

#[test]
fn a_forgotten_node_that_came_back_is_unknown() {
    let mut fixture = Fixture::cluster(6, 1);
    let ghost = "e".repeat(40);
    fixture.append(
        "valkey-5",
        &format!("{ghost} 10.244.0.98:6379@16379 master - 0 0 0 connected"),
    );
    let violation = only(check(&fixture.observation()));
    assert_eq!(
        violation.seen,
        "an unknown node at 10.244.0.98:6379 that owns no slots"
    );
}

#[test]
fn an_owner_at_a_stale_address_is_named_with_both_addresses() {
    let mut fixture = Fixture::cluster(6, 1);
    fixture.edit("valkey-3", "10.244.0.11:6379", "10.244.0.77:6379");
    let violation = only(check(&fixture.observation()));
    assert_eq!(
        violation.to_string(),
        "slot_coverage: owner of slots 5461-10922, valkey-1: expected the pod's current address 10.244.0.11, \
         saw 10.244.0.77, which is not a pod of this release (as valkey-3 sees it)"
    );
}

#[test]
fn a_node_whose_pod_is_silent_is_not_an_unknown_node() {
    let mut observation = Fixture::cluster(6, 1).observation();
    observation.views.insert(
        "valkey-5".to_owned(),
        Err(valkey::view::ViewError {
            kind: valkey::view::ViewErrorKind::Timeout,
            message: "no answer".to_owned(),
        }),
    );
    assert_eq!(check(&observation), []);
}

#[test]
fn uneven_but_complete_coverage_is_no_matter_here() {
    let mut fixture = Fixture::cluster(6, 1);
    fixture.edit_all(" 0-5460", " 0-99");
    fixture.edit_all(" 5461-10922", " 100-10922");
    assert_eq!(check(&fixture.observation()), []);
}
