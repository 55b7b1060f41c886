//! Tests with output of `valkey-cli`, one client problem at a time.

use super::super::fixture::{Fixture, id};
use super::*;

const REFUSED: &str = "Could not connect to Valkey at vk.ns.svc:6379: Connection refused";
const NOAUTH: &str = "NOAUTH Authentication required.";

fn well() -> ClientView {
    let endpoints = (0..6).map(|ordinal| Endpoint {
        host: format!("10.244.0.{}", 10 + ordinal),
        port: "6379".to_owned(),
        node: Some(id(ordinal)),
        answer: Answer::parse(&["OK", &id(ordinal)], true),
    });
    ClientView {
        service: "vk".to_owned(),
        address: "vk.ns.svc:6379".to_owned(),
        anonymous: Answer::parse(&[NOAUTH], false),
        admitted: Answer::parse(&["OK", "PONG"], true),
        endpoints: endpoints.collect(),
    }
}

fn found(view: &ClientView) -> String {
    let violations = check(&Fixture::cluster(6, 1).observation(), view);
    assert_eq!(violations.len(), 1, "{violations:#?}");
    violations[0].to_string()
}

#[test]
fn a_client_that_gets_everywhere_finds_nothing() {
    let seen = Fixture::cluster(6, 1).observation();
    assert_eq!(check(&seen, &well()), []);
    // A hostname is as good as an address, and a redirection names no node.
    let mut view = well();
    view.endpoints[3].host = "vk-3.vk-headless.ns.svc.cluster.local".to_owned();
    view.endpoints[4].node = None;
    assert_eq!(check(&seen, &view), []);
    // An ACL may let users in and still forbid them to read.
    view.anonymous = Answer::parse(&["NOPERM User default has no permissions"], false);
    assert_eq!(check(&seen, &view), []);
}

#[test]
fn without_a_password_none_is_needed() {
    let mut seen = Fixture::standalone().observation();
    seen.expected.auth = false;
    let mut view = well();
    view.endpoints.clear();
    view.anonymous = Answer::parse(&["value"], false);
    view.admitted = Answer::parse(&["PONG"], false);
    assert_eq!(check(&seen, &view), []);
    view.anonymous = Answer::parse(&[NOAUTH], false);
    assert_eq!(check(&seen, &view).len(), 1);
}

#[test]
fn a_service_that_leads_nowhere_is_named_once() {
    let mut view = well();
    view.endpoints.clear();
    view.anonymous = Answer::parse(&[REFUSED, REFUSED], false);
    view.admitted = Answer::parse(&[REFUSED, REFUSED], true);
    assert_eq!(
        found(&view),
        "client: Service vk: expected clients in another namespace to get PONG from vk.ns.svc:6379, saw no connection \
         (Connection refused)"
    );
    view.admitted = Answer::parse(&[], true);
    assert!(found(&view).ends_with("saw no answer within 5 s"));
    view.admitted = Answer::parse(&["WRONGPASS invalid username-password pair"], true);
    assert!(found(&view).ends_with("saw a refusal: WRONGPASS invalid username-password pair"));
}

#[test]
fn an_open_door_is_named() {
    let mut view = well();
    view.anonymous = Answer::parse(&["MOVED 12539 10.244.0.12:6379"], false);
    assert!(found(&view).contains("expected clients without a password to be refused, saw \"MOVED 12539"));
}

#[test]
fn an_announced_name_that_does_not_resolve_is_named() {
    let mut view = well();
    view.endpoints[2].host = "valkey-2.example".to_owned();
    let met = "Could not connect to Valkey at valkey-2.example:6379: Name or service not known";
    view.endpoints[2].answer = Answer::parse(&[met, met], true);
    assert_eq!(
        found(&view),
        "client: valkey-2: expected clients to reach it at the announced endpoint valkey-2.example:6379, saw clients are \
         redirected to a name that does not resolve (Name or service not known)"
    );
}

#[test]
fn a_silent_or_wrong_server_at_an_announced_address_is_named() {
    let mut view = well();
    view.endpoints[2].answer = Answer::Silent;
    assert!(found(&view).ends_with("saw clients redirected there get no answer within 5 s"));
    view.endpoints[2].answer = Answer::parse(&["OK", &id(1)], true);
    assert!(found(&view).ends_with("saw clients are redirected to another server, valkey-1 (11111111)"));
}

#[test]
fn a_node_that_announces_no_endpoint_is_named() {
    let mut view = well();
    view.endpoints[0].host = "?".to_owned();
    assert!(
        found(&view)
            .ends_with("valkey-0: expected to announce its address to clients, saw clients get no address")
    );
}

#[test]
fn a_connection_that_breaks_is_no_answer() {
    for said in [
        "Error: Connection reset by peer",
        "Error: Server closed the connection",
    ] {
        let answer = Answer::parse(&[said], false);
        assert!(matches!(answer, Answer::Unreachable(_)), "{said}: {answer:?}");
    }
}
