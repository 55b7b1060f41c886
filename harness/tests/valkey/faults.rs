//! Faults of servers and connections during work. Each is classified, none is counted as a loss of
//! data, and every wait ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::valkey::Dialer;
use harness::valkey::ledger::{
    Class, Ledger, LedgerServers, LedgerSpec, Mix, Verification, VerifyOptions, WriteOptions, WriteReport,
};
use harness::valkey::load::report::LoadBudget;
use harness::valkey::load::{Load, LoadOptions, LoadReport};
use harness::valkey::slots::SLOT_COUNT;
use jiff::Timestamp;
use needs::needs;

use crate::servers::{Servers, TcpDialer, libc_signal::Signal, password, run, text, until};
use crate::tripwire::{Act, Tripwire};

/// One key in each slot.
const KEYS: u64 = SLOT_COUNT as u64;

/// Enough for the first pipelines of a pass over a node's keys, and far less than all of it.
const IN_THE_MIDDLE: usize = 100_000;

/// Deadline for a fault of a second or two to end and be reported.
const BOUND: Duration = Duration::from_secs(30);

const QUICK: VerifyOptions = VerifyOptions {
    look_for_phantoms: true,
    within: Duration::from_secs(2),
    answer_deadline: Duration::from_secs(1),
};

/// No acknowledged write may be lost. Gaps do not count, because these tests cause them.
const NOTHING_LOST: LoadBudget = LoadBudget {
    unconfirmed_losses: 0,
    longest_gap: Duration::from_secs(3600),
};

struct Held {
    ledger: Ledger,
    target: LedgerServers,
    _dir: tempfile::TempDir,
}

impl Held {
    /// Returns a ledger with its first generation written.
    async fn written(servers: &Servers) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let spec = LedgerSpec {
            label: "led".to_owned(),
            seed: 42,
            keys: KEYS,
            mix: Mix::Varied,
            base_ms: Timestamp::now().as_millisecond(),
        };
        let held = Self {
            ledger: Ledger::create(dir.path(), spec).expect("created"),
            target: target(servers, servers.dialer()),
            _dir: dir,
        };
        assert_eq!(held.write().await.acknowledged, KEYS);
        held
    }

    async fn write(&self) -> WriteReport {
        self.write_through(&self.target).await
    }

    async fn write_through(&self, target: &LedgerServers) -> WriteReport {
        let options = WriteOptions {
            within: QUICK.within,
            answer_deadline: QUICK.answer_deadline,
            ..WriteOptions::default()
        };
        self.ledger.write(target, &options).await.expect("journalled")
    }

    async fn verify(&self) -> Verification {
        self.ledger.verify(&self.target, &VerifyOptions::default()).await
    }
}

fn target(servers: &Servers, dialer: impl Dialer) -> LedgerServers {
    LedgerServers::new(Arc::new(dialer), Some(password()), servers.names())
}

#[needs(valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stopped_during_verification_is_unverified_not_lost() {
    let servers = Servers::cluster(3, 0).await;
    let held = Held::written(&servers).await;
    let pid = servers.pid("valkey-1");
    let stop = Act::Run(Box::new(move || {
        Signal::Stop.send(pid);
        Box::pin(async {})
    }));
    let wire = Tripwire::new(servers.dialer(), "valkey-1", IN_THE_MIDDLE, stop);
    let started = Instant::now();
    let found = held.ledger.verify(&target(&servers, wire.clone()), &QUICK).await;
    let took = started.elapsed();
    servers.signal("valkey-1", Signal::Continue);
    assert!(wire.tripped(), "it stopped while it was being read");
    assert!(took < BOUND, "{took:?}");
    assert_eq!((found.of(Class::Lost), found.of(Class::ExpiredEarly)), (0, 0));
    assert!(found.of(Class::Unverified) > 0, "{:?}", found.counts);
    // The last attempt, which failed.
    let silent = |cause: &String| cause.starts_with("valkey-1: no ") && cause.contains(" within ");
    assert!(
        found.unverified.keys().any(silent),
        "{:?}",
        found.unverified.keys()
    );
    assert!(!found.violations(0).is_empty(), "what was not read is not green");
    until("the cluster to heal", || async {
        let all = held.ledger.verify(&held.target, &QUICK).await;
        all.violations(0).is_empty().then_some(())
    })
    .await;
}

#[needs(valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_the_middle_of_a_pipeline_loses_nothing() {
    let servers = Servers::cluster(3, 0).await;
    let held = Held::written(&servers).await;
    // Reading again is harmless, so every key is read in the end.
    let wire = Tripwire::new(servers.dialer(), "valkey-1", IN_THE_MIDDLE, Act::Cut);
    let found = held.ledger.verify(&target(&servers, wire.clone()), &QUICK).await;
    assert!(wire.tripped(), "it was cut while it was being read");
    assert_eq!(found.violations(0), []);
    // Writing again is not: an unanswered write has an unknown outcome, and either state is valid.
    // The answers are short, so the limit is only a few hundred of them.
    let wire = Tripwire::new(servers.dialer(), "valkey-1", 3_000, Act::Cut);
    let report = held.write_through(&target(&servers, wire.clone())).await;
    assert!(wire.tripped(), "it was cut while it was being written");
    let unknown: u64 = report.unknown.values().sum();
    assert!(unknown > 0 && report.refused.is_empty(), "{report:?}");
    assert_eq!(report.acknowledged + unknown, KEYS, "{report:?}");
    let cut = |cause: &String| cause.starts_with("valkey-1: connection broke");
    assert!(report.unknown.keys().all(cut), "{report:?}");
    assert_eq!(held.verify().await.violations(0), []);
}

#[needs(valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_while_they_are_read_are_followed() {
    let servers = Servers::cluster(3, 0).await;
    let held = Held::written(&servers).await;
    // The pass over the first node's slots begins at the other end of the range.
    let dialer = servers.dialer();
    let migrate = Act::Run(Box::new(move || {
        let dialer = dialer.clone();
        Box::pin(async move { migrate(&dialer, "valkey-0", "valkey-1", 5000, 5400).await })
    }));
    let wire = Tripwire::new(servers.dialer(), "valkey-0", IN_THE_MIDDLE, migrate);
    let target = target(&servers, wire.clone());
    target.router().refresh().await;
    assert_eq!(target.router().slot_map().await.owner(5400), Some("valkey-0"));
    let found = held.ledger.verify(&target, &VerifyOptions::default()).await;
    assert!(wire.tripped(), "they moved while they were being read");
    assert_eq!(
        target.router().slot_map().await.owner(5400),
        Some("valkey-1"),
        "the reader was sent on"
    );
    assert_eq!(found.violations(0), []);
    assert_eq!(found.counts.values().sum::<u64>(), KEYS);
}

/// Moves slots in one migration, and returns when both nodes report the move.
async fn migrate(dialer: &TcpDialer, from: &str, to: &str, first: u16, last: u16) {
    let connection = async |pod: &str| {
        let stream = dialer.dial(pod).await.expect("it answers");
        harness::valkey::connect(stream, Some(&password()))
            .await
            .expect("it answers")
    };
    let (mut source, mut target) = (connection(from).await, connection(to).await);
    let id = text(&mut target, &["CLUSTER", "MYID"]).await;
    let (first, last) = (first.to_string(), last.to_string());
    let command = [
        "CLUSTER",
        "MIGRATESLOTS",
        "SLOTSRANGE",
        &first,
        &last,
        "NODE",
        &id,
    ];
    run(&mut source, &command).await;
    for node in [source, target] {
        until("the slots to have moved", || async {
            let nodes = text(&mut node.clone(), &["CLUSTER", "NODES"]).await;
            let theirs = nodes.lines().find(|line| line.starts_with(&id))?;
            theirs.contains(&format!("{first}-{last}")).then_some(())
        })
        .await;
    }
}

/// A server that cannot save a snapshot refuses writes (`stop-writes-on-bgsave-error`).
#[needs(valkey, mounts)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_snapshot_refuses_writes_and_loses_nothing() {
    let arguments = ["--appendonly", "no", "--save", "3600 100000000"];
    let servers = Servers::on_small_disks(1, &arguments).await;
    let held = Held::written(&servers).await;
    servers.fill_disk("valkey-0");
    save(&servers, "rdb_last_bgsave_status:err").await;
    let report = held.write().await;
    assert_eq!(report.refused.get("MISCONF"), Some(&KEYS), "{report:?}");
    assert_eq!(
        held.verify().await.violations(0),
        [],
        "what was refused is not lost"
    );
    servers.free_disk("valkey-0");
    save(&servers, "rdb_last_bgsave_status:ok").await;
    assert_eq!(held.write().await.acknowledged, KEYS);
    assert_eq!(held.verify().await.violations(0), []);
}

async fn save(servers: &Servers, outcome: &str) {
    until(outcome, || async {
        let mut node = servers.connection("valkey-0").await;
        let info = text(&mut node, &["INFO", "persistence"]).await;
        if info.contains("rdb_bgsave_in_progress:1") {
            return None;
        }
        if info.contains(outcome) && info.contains("rdb_saves:") && !info.contains("rdb_last_save_time:0") {
            return Some(());
        }
        text(&mut node, &["BGSAVE"]).await;
        None
    })
    .await;
}

/// A full disk under an append-only file, for the ledger and the load at once.
#[needs(valkey, mounts)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let servers = Servers::on_small_disks(1, &[]).await;
    let held = Held::written(&servers).await;
    let load = load(&servers, servers.dialer()).await;
    servers.fill_disk("valkey-0");
    let started = Instant::now();
    let report = held.write().await;
    assert!(started.elapsed() < BOUND);
    assert!(report.refused.get("MISCONF") > Some(&0), "{report:?}");
    assert_eq!(
        held.verify().await.violations(0),
        [],
        "what was refused is not lost"
    );
    servers.free_disk("valkey-0");
    until("the server to write again", || async {
        let info = text(
            &mut servers.connection("valkey-0").await,
            &["INFO", "persistence"],
        )
        .await;
        info.contains("aof_last_write_status:ok").then_some(())
    })
    .await;
    assert_eq!(held.write().await.acknowledged, KEYS);
    assert_eq!(held.verify().await.violations(0), []);
    let report = load.stop().await;
    assert_eq!(report.violations(&NOTHING_LOST), []);
    assert!(obstacles(&report).contains("MISCONF"), "{report:#?}");
}

async fn load(servers: &Servers, dialer: impl Dialer) -> Load {
    let options = LoadOptions {
        answer_deadline: Duration::from_secs(1),
        // Often enough to meet a fault that lasts a second.
        pace: Duration::from_millis(5),
        ..LoadOptions::default()
    };
    Load::start(Arc::new(dialer), Some(password()), servers.names(), options)
        .await
        .expect("a load")
}

/// Lets the load run for a while, because it measures time.
async fn run_for(time: Duration) {
    tokio::time::sleep_until(tokio::time::Instant::now() + time).await;
}

fn obstacles(report: &LoadReport) -> String {
    let all = report.shards.values().flat_map(|shard| shard.obstacles());
    all.map(|(obstacle, count)| format!("{obstacle}: {count}\n"))
        .collect()
}

#[needs(valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_survive_oom_silence_and_a_cut_without_a_loss() {
    let servers = Servers::cluster(3, 0).await;
    // Each confirmation of a writer is an answer of ten bytes.
    let wire = Tripwire::new(servers.dialer(), "valkey-2", 4_000, Act::Cut);
    let load = load(&servers, wire.clone()).await;
    run_for(Duration::from_millis(500)).await;
    let limit = async |bytes: &str| {
        let mut node = servers.connection("valkey-0").await;
        run(&mut node, &["CONFIG", "SET", "maxmemory", bytes]).await;
    };
    limit("1").await;
    servers.signal("valkey-1", Signal::Stop);
    run_for(Duration::from_millis(1500)).await;
    servers.signal("valkey-1", Signal::Continue);
    limit("0").await;
    until("the cluster to be well", || async {
        let mut node = servers.connection("valkey-0").await;
        let info = text(&mut node, &["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:ok").then_some(())
    })
    .await;
    run_for(Duration::from_millis(500)).await;
    let started = Instant::now();
    let report = load.stop().await;
    assert!(started.elapsed() < BOUND);
    assert!(wire.tripped());
    assert_eq!(report.violations(&NOTHING_LOST), []);
    let met = |pod: &str| {
        report.shards[pod]
            .obstacles()
            .into_keys()
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert!(met("valkey-0").contains("OOM"), "{report:#?}");
    assert!(met("valkey-1").contains("no answer"), "{report:#?}");
    assert!(met("valkey-2").contains("connection broke"), "{report:#?}");
    let unknown: u64 = report.shards["valkey-1"]
        .writers
        .iter()
        .map(|writer| writer.unknown)
        .sum();
    assert!(unknown > 0, "what was sent and not answered is unknown");
}
