//! Observation of real servers with real defects.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use harness::checks::{self, Violation, password, replication};
use harness::valkey::links::Links;
use harness::valkey::view::ViewErrorKind;
use harness::valkey::{BoxedStream, Dialer};
use needs::needs;

use crate::servers::{Servers, TcpDialer, ask, password as secret, run, text, until};

async fn settled(servers: &Servers, rpp: u32) {
    until("a cluster without violations", || async {
        let violations = checks::run(&servers.observe(rpp).await);
        violations.is_empty().then_some(())
    })
    .await;
}

/// Waits until `check` is violated, and returns its violations.
async fn violations_of(servers: &Servers, check: &str) -> Vec<Violation> {
    until(check, || async {
        let mut all = checks::run(&servers.observe(1).await);
        all.retain(|violation| violation.check == check);
        (!all.is_empty()).then_some(all)
    })
    .await
}

#[needs(valkey)]
#[tokio::test]
async fn a_formed_cluster_keeps_all_promises_and_breaks_are_caught() {
    let mut servers = Servers::cluster(3, 1).await;
    settled(&servers, 1).await;
    let observation = servers.observe(1).await;
    assert_eq!(replication::check_caught_up(&observation), []);
    let evidence = serde_json::to_value(&observation).expect("an observation is evidence");
    assert!(
        !evidence.to_string().contains("loopback-secret"),
        "a password in the evidence"
    );

    let mut first = servers.connection("valkey-0").await;
    let second_id = text(&mut servers.connection("valkey-1").await, &["CLUSTER", "MYID"]).await;
    run(&mut first, &["CLUSTER", "SETSLOT", "93", "MIGRATING", &second_id]).await;
    let open = violations_of(&servers, "slot_coverage").await;
    // The primary replicates the slot's state (since Valkey 8), so its replica may report it too.
    assert!(
        open.iter().all(|violation| violation.subject == "slot 93"),
        "{open:#?}"
    );
    let source = open
        .iter()
        .find(|violation| violation.viewed_from == ["valkey-0"])
        .expect("the source's own view");
    assert!(source.seen.contains("migrating to valkey-1 ("), "{source}");
    run(&mut first, &["CLUSTER", "SETSLOT", "93", "STABLE"]).await;

    let mut replica = servers.connection("valkey-4").await;
    run(&mut replica, &["CONFIG", "SET", "primaryauth", ""]).await;
    // The link is cut, and cannot be made again.
    ask(
        &mut servers.connection("valkey-1").await,
        &["CLIENT", "KILL", "TYPE", "replica"],
    )
    .await;
    let links = violations_of(&servers, "replication").await;
    assert!(
        links.iter().any(|violation| violation.seen == "it is not set"),
        "{links:#?}"
    );
    until("the link to be reported with its cause", || async {
        let all = replication::check(&servers.observe(1).await);
        all.into_iter().find(|violation| {
            violation.seen.starts_with("down")
                && violation.evidence.iter().any(|line| line.starts_with("cause:"))
        })
    })
    .await;
    run(&mut replica, &["CONFIG", "SET", "primaryauth", "loopback-secret"]).await;
    settled(&servers, 1).await;

    servers.kill("valkey-5");
    let silent = violations_of(&servers, "reachability").await;
    assert_eq!(silent.len(), 1, "{silent:#?}");
    assert_eq!(silent[0].subject, "valkey-5");
    assert!(silent[0].seen.contains("refused"), "{}", silent[0]);
    let dead = until("the others to notice", || async {
        let all = checks::run(&servers.observe(1).await);
        all.into_iter()
            .find(|violation| violation.seen == "flags fail" && violation.viewed_from.len() == 5)
    })
    .await;
    assert!(dead.subject.starts_with("entry of node "), "{dead}");
}

#[needs(valkey)]
#[tokio::test]
async fn who_gets_in_with_which_password() {
    let servers = Servers::start(1, &[]).await;
    let credential = |label: &str, password, accepted| password::Credential {
        label: label.to_owned(),
        password,
        accepted,
    };
    let credentials = [
        credential("no password", None, false),
        credential("a wrong password", Some("nonsense".to_owned().into()), false),
        credential("the password", Some(secret()), true),
    ];
    let attempts = password::attempt(&servers.dialer(), &servers.names(), &credentials).await;
    assert_eq!(password::check(&attempts), []);
    run(
        &mut servers.connection("valkey-0").await,
        &["CONFIG", "SET", "requirepass", ""],
    )
    .await;
    let attempts = password::attempt(&servers.dialer(), &servers.names(), &credentials).await;
    let violations = password::check(&attempts);
    assert_eq!(
        violations.len(),
        2,
        "an open server is no success: {violations:#?}"
    );
}

/// Counts connections.
struct Counting(TcpDialer, AtomicUsize);

impl Dialer for Counting {
    fn dial<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.dial(pod)
    }
}

/// A second observation reuses its connections, except to a restarted server. It reports a server
/// that is gone.
#[needs(valkey)]
#[tokio::test]
async fn looks_share_their_connections_and_replace_broken_ones() {
    let mut servers = Servers::start(2, &[]).await;
    let dialer = Arc::new(Counting(servers.dialer(), AtomicUsize::new(0)));
    let links = Links::new(dialer.clone());
    let dialled = || dialer.1.load(Ordering::Relaxed);
    for _ in 0..2 {
        assert_eq!(servers.observe_over(&links, 0).await.answered().count(), 2);
    }
    assert_eq!(dialled(), 2);

    let ip = servers.nodes["valkey-0"].ip;
    servers.kill("valkey-0");
    servers.launch("valkey-0", ip).await;
    assert_eq!(servers.observe_over(&links, 0).await.answered().count(), 2);
    assert_eq!(dialled(), 3);

    // A server that rejects new clients is only noticed by a new connection.
    let mut server = servers.connection("valkey-0").await;
    run(&mut server, &["CONFIG", "SET", "requirepass", "another"]).await;
    assert!(servers.observe_over(&links, 0).await.views["valkey-0"].is_ok());
    links.close();
    let seen = servers.observe_over(&links, 0).await;
    let view = seen.views["valkey-0"].as_ref();
    assert_eq!(
        view.expect_err("the password is another").kind,
        ViewErrorKind::Authentication
    );
    run(&mut server, &["CONFIG", "SET", "requirepass", secret().expose()]).await;

    servers.kill("valkey-1");
    let seen = servers.observe_over(&links, 0).await;
    let view = seen.views["valkey-1"].as_ref();
    assert_eq!(
        view.expect_err("it is not there").kind,
        ViewErrorKind::Unreachable
    );
    assert!(seen.views["valkey-0"].is_ok());
}
