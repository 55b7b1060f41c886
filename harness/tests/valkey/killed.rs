//! A harness killed during its work, by a signal that it cannot catch, keeps all it recorded.
//!
//! The test starts its own executable again, as the process to kill.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use harness::valkey::ledger::{Class, Ledger, LedgerServers, LedgerSpec, Mix, VerifyOptions, WriteOptions};
use harness::valkey::load::report::LoadBudget;
use harness::valkey::load::{Load, LoadOptions};
use jiff::Timestamp;
use needs::needs;

use crate::servers::{Servers, TcpDialer, password, until};

/// Folder of the killed process's journals, and addresses of its servers: `NAME=ADDRESS,…`.
const FOLDER: &str = "VALKEY_TEST_KILLED_FOLDER";
const SERVERS: &str = "VALKEY_TEST_KILLED_SERVERS";

/// Folders in which the process keeps the journals of the load and of the ledger.
const LOAD: &str = "load";
const LEDGER: &str = "ledger";

/// Number of bytes of recorded numbers that show a load in the middle of its work.
const RECORDED: u64 = 16_000;

/// More keys than are written before the kill.
const KEYS: u64 = 2_000_000;

/// The process to kill. It does nothing without its variables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other tests of this file start it, and kill it"]
async fn writes_until_it_is_killed() {
    let (Ok(folder), Ok(servers)) = (std::env::var(FOLDER), std::env::var(SERVERS)) else {
        return;
    };
    let folder = Path::new(&folder);
    let addresses: BTreeMap<String, Ipv4Addr> = servers
        .split(',')
        .map(|pair| pair.split_once('=').expect("NAME=ADDRESS"))
        .map(|(name, ip)| (name.to_owned(), ip.parse().expect("an address")))
        .collect();
    let names: Vec<String> = addresses.keys().cloned().collect();
    let dialer = Arc::new(TcpDialer::to(addresses));
    let options = LoadOptions {
        journal: Some(folder.join(LOAD)),
        // The load records many numbers before the ledger is complete.
        pace: Duration::from_millis(5),
        ..LoadOptions::default()
    };
    let _load = Load::start(dialer.clone(), Some(password()), names.clone(), options)
        .await
        .expect("a load");
    let spec = LedgerSpec {
        label: "led".to_owned(),
        seed: 7,
        keys: KEYS,
        mix: Mix::Plain,
        base_ms: Timestamp::now().as_millisecond(),
    };
    let ledger = Ledger::create(&folder.join(LEDGER), spec).expect("created");
    let target = LedgerServers::new(dialer, Some(password()), names);
    loop {
        ledger
            .write(&target, &WriteOptions::default())
            .await
            .expect("journalled");
    }
}

fn start(servers: &Servers, folder: &Path) -> Child {
    let addresses: Vec<String> = servers
        .nodes
        .iter()
        .map(|(name, node)| format!("{name}={}", node.ip))
        .collect();
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "killed::writes_until_it_is_killed", "--ignored"])
        .env(FOLDER, folder)
        .env(SERVERS, addresses.join(","))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts")
}

/// Every listed number was recorded as sent before, and every acknowledged number is listed. This
/// also holds for the ledger's keys.
#[needs(valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journals_of_a_killed_process_account_for_everything() {
    let servers = Servers::cluster(2, 1).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut process = start(&servers, dir.path());
    let numbers = dir.path().join(LOAD).join("numbers.bin");
    until("the load to have recorded much", || async {
        let length = std::fs::metadata(&numbers).ok()?.len();
        (length > RECORDED).then_some(())
    })
    .await;
    let ended = process.try_wait().expect("it is ours");
    assert!(ended.is_none(), "it was not killed in the middle: {ended:?}");
    process.kill().expect("it is ours");
    process.wait().expect("it is ours");

    let dialer = Arc::new(servers.dialer());
    let report = Load::recover(
        &dir.path().join(LOAD),
        dialer.clone(),
        Some(password()),
        servers.names(),
    )
    .await
    .expect("its journal is whole");
    let budget = LoadBudget {
        unconfirmed_losses: 0,
        longest_gap: Duration::from_secs(3600),
    };
    assert_eq!(report.violations(&budget), []);
    assert!(report.acknowledged() > RECORDED / 8 / 2, "{report:#?}");
    let writers = || report.shards.values().flat_map(|shard| &shard.writers);
    assert!(
        writers().all(|writer| writer.unknown <= 1),
        "one number each was on its way"
    );
    assert!(writers().any(|writer| writer.confirmed > 0));

    let ledger = Ledger::open(&dir.path().join(LEDGER)).expect("its journal is whole");
    let target = LedgerServers::new(dialer, Some(password()), servers.names());
    let found = ledger.verify(&target, &VerifyOptions::default()).await;
    assert_eq!(found.violations(0), []);
    let (written, unwritten) = (found.of(Class::Intact), found.of(Class::Unwritten));
    assert!(written > 0 && unwritten > 0, "in the middle: {:?}", found.counts);
}
