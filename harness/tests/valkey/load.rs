//! Background load against real clusters that fail over and move slots.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use harness::valkey::load::report::LoadBudget;
use harness::valkey::load::{Load, LoadOptions, LoadReport};
use harness::valkey::{BoxedStream, Dialer};
use needs::needs;

use crate::servers::{Moving, Servers, TcpDialer, password, run, text, until};

const LENIENT: LoadBudget = LoadBudget {
    unconfirmed_losses: 1000,
    longest_gap: Duration::from_secs(60),
};

async fn start(servers: &Servers) -> Load {
    let dialer = Arc::new(servers.dialer());
    Load::start(dialer, Some(password()), servers.names(), LoadOptions::default())
        .await
        .expect("a load")
}

/// Lets the load run for a while, because it measures time.
async fn run_for(time: Duration) {
    tokio::time::sleep_until(tokio::time::Instant::now() + time).await;
}

#[needs(valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_cluster_loses_nothing_and_has_no_gap() {
    let servers = Servers::cluster(3, 1).await;
    let load = start(&servers).await;
    run_for(Duration::from_secs(2)).await;
    let report = load.stop().await;
    let budget = LoadBudget {
        unconfirmed_losses: 0,
        longest_gap: Duration::from_secs(1),
    };
    assert_eq!(report.violations(&budget), []);
    assert_eq!(report.shards.len(), 3);
    assert!(report.acknowledged() > 300, "{report:#?}");
    let confirmed: u64 = writers(&report).map(|writer| writer.confirmed).sum();
    assert!(confirmed > 50, "WAIT 1 is answered: {report:#?}");
}

/// Runs two loads at once at full speed, one with a journal. Their difference is the journal's
/// cost, whatever else the machine does.
#[needs(valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_costs_little() {
    let servers = Servers::cluster(2, 0).await;
    let dir = tempfile::tempdir().expect("a directory");
    let load = async |label: &str, journal| {
        let options = LoadOptions {
            label: label.to_owned(),
            confirming_per_shard: 0,
            pace: Duration::ZERO,
            journal,
            ..LoadOptions::default()
        };
        let dialer = Arc::new(servers.dialer());
        Load::start(dialer, Some(password()), servers.names(), options)
            .await
            .expect("a load")
    };
    let without = load("without", None).await;
    let with = load("with", Some(dir.path().join("journal"))).await;
    run_for(Duration::from_secs(2)).await;
    // Each load runs a little longer than the other: one starts earlier, one ends later.
    let (without, with) = (without.stop().await, with.stop().await);
    let rate = |report: &LoadReport| report.acknowledged() as f64 / report.duration.as_secs_f64();
    let ratio = rate(&with) / rate(&without);
    eprintln!(
        "{:.0} writes/s with a journal, {:.0} without: {ratio:.2}",
        rate(&with),
        rate(&without)
    );
    assert!(
        ratio > 0.7,
        "{ratio:.2} of the writes that there are without a journal"
    );
    assert_eq!(with.violations(&LENIENT), []);
}

fn writers(report: &LoadReport) -> impl Iterator<Item = &harness::valkey::load::report::WriterReport> {
    report.shards.values().flat_map(|shard| &shard.writers)
}

#[needs(valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_gaps_one_shard_and_loses_nothing_confirmed() {
    let mut servers = Servers::cluster(3, 1).await;
    until("replicas in sync", || async {
        let text = text(
            &mut servers.connection("valkey-4").await,
            &["INFO", "replication"],
        )
        .await;
        text.contains("master_link_status:up").then_some(())
    })
    .await;
    let load = start(&servers).await;
    run_for(Duration::from_millis(700)).await;
    let killed = Instant::now();
    servers.kill("valkey-1");
    until("the replica to be promoted", || async {
        let text = text(
            &mut servers.connection("valkey-4").await,
            &["INFO", "replication"],
        )
        .await;
        text.contains("role:master").then_some(())
    })
    .await;
    let promoted = killed.elapsed();
    run_for(Duration::from_secs(2)).await;
    let report = load.stop().await;
    let (shard, gap) = report.worst_gap().expect("shards");
    assert_eq!(shard, "valkey-1");
    assert!(
        gap > Duration::from_secs(1) && gap < promoted + Duration::from_secs(4),
        "{gap:?} of {promoted:?}"
    );
    assert_eq!(
        report.violations(&LENIENT),
        [],
        "nothing confirmed is lost, nothing is duplicated"
    );
    assert!(!report.shards["valkey-1"].obstacles().is_empty());
}

#[needs(valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_to_a_list_behind_its_back_is_called_by_its_name() {
    let servers = Servers::cluster(3, 1).await;
    let load = start(&servers).await;
    run_for(Duration::from_secs(1)).await;
    let slots = load.shards().clone();
    let keys = load.keys();
    let victim = keys
        .iter()
        .find(|(_, confirming)| *confirming)
        .expect("a confirming writer")
        .0
        .clone();
    let owner = slots
        .iter()
        .find(|(_, slots)| slots.contains(harness::valkey::slots::key_slot(victim.as_bytes())));
    let mut node = servers.connection(owner.expect("an owner").0).await;
    run(&mut node, &["LSET", &victim, "3", "2"]).await;
    let report = load.stop().await;
    let violations = report.violations(&LENIENT);
    let seen: Vec<&str> = violations
        .iter()
        .map(|violation| violation.seen.as_str())
        .collect();
    assert_eq!(seen, ["1 lost: 4", "duplicates 2"], "{violations:#?}");
}

#[needs(valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_is_followed_with_its_numbers() {
    let servers = Servers::cluster(2, 0).await;
    let load = start(&servers).await;
    run_for(Duration::from_millis(500)).await;
    // Not a confirming writer, as there is no replica to wait for.
    let key = load.keys()[1].0.clone();
    let slot = harness::valkey::slots::key_slot(key.as_bytes());
    assert!(load.shards()["valkey-0"].contains(slot));
    let mut moving = Moving::begin(&servers, slot).await;
    moving.migrate(&key).await;
    run_for(Duration::from_millis(300)).await;
    moving.finish().await;
    run_for(Duration::from_millis(500)).await;
    let report = load.stop().await;
    assert_eq!(
        report.violations(&LoadBudget {
            unconfirmed_losses: 0,
            longest_gap: Duration::from_secs(2)
        }),
        []
    );
    let writer = writers(&report)
        .find(|writer| writer.key == key)
        .expect("the writer");
    assert!(
        writer.obstacles.contains_key("ASK") && writer.obstacles.contains_key("MOVED"),
        "{writer:#?}"
    );
}

/// Leaves the first connections without an answer, as servers on a busy machine do.
struct Deaf(TcpDialer, AtomicUsize);

impl Dialer for Deaf {
    fn dial<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        let left = self
            .1
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match left {
            Ok(_) => Box::pin(std::future::pending()),
            Err(_) => self.0.dial(pod),
        }
    }
}

#[needs(valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_starts_as_soon_as_somebody_says_who_owns_slots() {
    let servers = Servers::cluster(2, 0).await;
    let deaf = Arc::new(Deaf(servers.dialer(), AtomicUsize::new(servers.names().len())));
    let options = LoadOptions::default();
    let load = Load::start(deaf, Some(password()), servers.names(), options).await;
    let load = load.expect("the second look is answered");
    assert_eq!(load.shards().len(), 2);
    run_for(Duration::from_millis(200)).await;
    assert!(load.stop().await.acknowledged() > 0);
}
