//! The ledger against real servers: damage it must report, and changes it must tolerate.

use std::sync::Arc;
use std::time::Duration;

use harness::valkey::ledger::{
    Class, Ledger, LedgerServers, LedgerSpec, Mix, Verification, VerifyOptions, WriteOptions,
};
use harness::valkey::slots::SLOT_COUNT;
use jiff::Timestamp;
use needs::needs;
use redis::Value;

use crate::servers::{Moving, Servers, ask, libc_signal::Signal, password, run};

fn spec(keys: u64, mix: Mix) -> LedgerSpec {
    LedgerSpec {
        label: "led".to_owned(),
        seed: 42,
        keys,
        mix,
        base_ms: Timestamp::now().as_millisecond(),
    }
}

fn target(servers: &Servers) -> LedgerServers {
    LedgerServers::new(Arc::new(servers.dialer()), Some(password()), servers.names())
}

struct Held {
    ledger: Ledger,
    target: LedgerServers,
    _dir: tempfile::TempDir,
}

async fn written(servers: &Servers, keys: u64, options: &WriteOptions) -> Held {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::create(dir.path(), spec(keys, Mix::Varied)).expect("created");
    let target = target(servers);
    let report = ledger.write(&target, options).await.expect("journalled");
    assert_eq!(report.acknowledged, keys, "{report:?}");
    Held {
        ledger,
        target,
        _dir: dir,
    }
}

impl Held {
    async fn verify(&self) -> Verification {
        self.ledger.verify(&self.target, &VerifyOptions::default()).await
    }
}

/// All keys of every type and size are present, in every slot, through three generations.
#[needs(valkey)]
#[tokio::test]
async fn what_is_written_is_found_generation_after_generation() {
    let servers = Servers::cluster(3, 1).await;
    let keys = u64::from(SLOT_COUNT) * 2 + 100;
    let options = WriteOptions {
        confirm_replicas: 1,
        ..WriteOptions::default()
    };
    let held = written(&servers, keys, &options).await;
    for generation in 1..=3 {
        let verification = held.verify().await;
        assert_eq!(verification.violations(0), [], "generation {generation}");
        assert_eq!(verification.counts.values().sum::<u64>(), keys);
        assert!(
            verification.of(Class::Intact) > keys * 95 / 100,
            "{:?}",
            verification.counts
        );
        let report = held
            .ledger
            .write(&held.target, &options)
            .await
            .expect("journalled");
        assert_eq!((report.acknowledged, report.generation), (keys, generation + 1));
        assert_eq!(report.confirmed, keys, "every batch was confirmed by a replica");
    }
}

/// Each kind of damage without the ledger's knowledge is reported as that kind, and nothing else
/// is.
#[needs(valkey)]
#[tokio::test]
async fn each_kind_of_damage_has_its_name() {
    let servers = Servers::cluster(3, 0).await;
    let held = written(&servers, u64::from(SLOT_COUNT), &WriteOptions::default()).await;
    let spec = held.ledger.spec();
    let find =
        |wanted: &dyn Fn(u64) -> bool| (0..spec.keys).find(|&index| wanted(index)).expect("such a key");
    let eternal_string = |index: u64| {
        let shape = spec.shape(index);
        shape.kind == harness::valkey::ledger::spec::KeyKind::String
            && shape.expires_ms.is_none()
            && shape.size > 8
    };
    let mortal = |index: u64| {
        spec.shape(index)
            .expires_ms
            .is_some_and(|at| at > spec.base_ms + 1_000_000)
    };
    let lost = find(&|index| index > 100 && eternal_string(index));
    let corrupt = find(&|index| index > lost && eternal_string(index));
    let retyped = find(&|index| index > corrupt && eternal_string(index));
    let immortal = find(&|index| index > 500 && mortal(index));
    let early = find(&|index| index > immortal && mortal(index));
    // The content of one key is kept now. It is written back as a stale value after the second
    // generation.
    let stale = find(&|index| index > 3000 && eternal_string(index));
    let owner_of = async |index: u64| {
        let map = held.target.router().slot_map().await;
        servers
            .connection(map.owner(spec.slot(index)).expect("an owner"))
            .await
    };
    let old = ask(&mut owner_of(stale).await, &["GET", &spec.key(stale)]).await;
    held.ledger
        .write(&held.target, &WriteOptions::default())
        .await
        .expect("the second generation");
    let Value::BulkString(old) = old else {
        panic!("no value: {old:?}")
    };
    let mut put_back = redis::pipe();
    put_back.cmd("SET").arg(spec.key(stale)).arg(old);
    owner_of(stale)
        .await
        .send_packed_commands(&put_back, 0, 1)
        .await
        .expect("put back");
    ask(&mut owner_of(lost).await, &["DEL", &spec.key(lost)]).await;
    ask(&mut owner_of(early).await, &["DEL", &spec.key(early)]).await;
    ask(
        &mut owner_of(corrupt).await,
        &["SETRANGE", &spec.key(corrupt), "3", "#"],
    )
    .await;
    ask(&mut owner_of(retyped).await, &["DEL", &spec.key(retyped)]).await;
    ask(&mut owner_of(retyped).await, &["LPUSH", &spec.key(retyped), "x"]).await;
    ask(&mut owner_of(immortal).await, &["PERSIST", &spec.key(immortal)]).await;
    let phantom = format!(
        "{{{}}}led:{}",
        harness::valkey::slots::tag_for_slot(9),
        9 + 16384 * 50
    );
    ask(&mut owner_of(9).await, &["SET", &phantom, "boo"]).await;

    let verification = held.verify().await;
    let counts = [
        (Class::Lost, 1),
        (Class::ExpiredEarly, 1),
        (Class::Corrupt, 2),
        (Class::Immortal, 1),
        (Class::Stale, 1),
        (Class::Phantom, 1),
        (Class::Unverified, 0),
    ];
    for (class, count) in counts {
        assert_eq!(
            verification.of(class),
            count,
            "{class}: {:#?}",
            verification.findings
        );
    }
    assert_eq!(verification.findings[&Class::Lost].examples, [spec.key(lost)]);
    assert_eq!(
        verification.findings[&Class::Immortal].examples,
        [spec.key(immortal)]
    );
    assert_eq!(verification.findings[&Class::Phantom].examples, [phantom]);
}

/// Returns true if all keys of a server were listed (`SCAN`).
async fn walked(servers: &Servers, pod: &str) -> bool {
    let mut connection = servers.connection(pod).await;
    let Value::BulkString(said) = ask(&mut connection, &["INFO", "commandstats"]).await else {
        panic!("{pod} says nothing")
    };
    String::from_utf8_lossy(&said).contains("cmdstat_scan:")
}

/// A server with the expected number of keys is not walked key by key, and any other is.
#[needs(valkey)]
#[tokio::test]
async fn only_a_server_with_other_keys_is_walked() {
    let servers = Servers::cluster(3, 0).await;
    let held = written(&servers, u64::from(SLOT_COUNT), &WriteOptions::default()).await;
    let verification = held.verify().await;
    assert_eq!(verification.violations(0), []);
    for pod in ["valkey-0", "valkey-1", "valkey-2"] {
        assert!(!walked(&servers, pod).await, "{pod}");
    }
    let other = harness::valkey::slots::tag_for_slot(9);
    let owner = {
        let map = held.target.router().slot_map().await;
        map.owner(9).expect("an owner").to_owned()
    };
    let key = format!("{{{other}}}other");
    ask(&mut servers.connection(&owner).await, &["SET", &key, "x"]).await;
    let verification = held.verify().await;
    assert_eq!(
        verification.violations(0),
        [],
        "it is not named like the ledger's"
    );
    assert!(walked(&servers, &owner).await, "{owner}");
}

/// A server that lost a key and got another has the expected number of keys, which proves nothing.
#[needs(valkey)]
#[tokio::test]
async fn a_phantom_does_not_hide_behind_a_lost_key() {
    let servers = Servers::cluster(3, 0).await;
    let held = written(&servers, u64::from(SLOT_COUNT), &WriteOptions::default()).await;
    let spec = held.ledger.spec().clone();
    let lost = (0..)
        .find(|&index| spec.shape(index).expires_ms.is_none())
        .expect("most keys live for ever");
    let slot = spec.slot(lost);
    let owner = {
        let map = held.target.router().slot_map().await;
        map.owner(slot).expect("an owner").to_owned()
    };
    let tag = harness::valkey::slots::tag_for_slot(slot);
    let phantom = format!("{{{tag}}}led:{}", u64::from(slot) + 50 * u64::from(SLOT_COUNT));
    let mut connection = servers.connection(&owner).await;
    ask(&mut connection, &["DEL", &spec.key(lost)]).await;
    ask(&mut connection, &["SET", &phantom, "boo"]).await;
    let verification = held.verify().await;
    let found = (verification.of(Class::Lost), verification.of(Class::Phantom));
    assert_eq!(found, (1, 1), "{:#?}", verification.findings);
    assert_eq!(verification.findings[&Class::Phantom].examples, [phantom]);
}

/// A wiped shard is reported with its slots and its former owner.
#[needs(valkey)]
#[tokio::test]
async fn a_wiped_shard_is_named_with_its_slots_and_owner() {
    let servers = Servers::cluster(3, 0).await;
    let held = written(&servers, u64::from(SLOT_COUNT), &WriteOptions::default()).await;
    run(&mut servers.connection("valkey-1").await, &["FLUSHALL"]).await;
    let verification = held.verify().await;
    let violations = verification.violations(0);
    assert_eq!(violations.len(), 1, "{violations:#?}");
    assert!(
        violations[0]
            .seen
            .contains("when they were written, valkey-1 had "),
        "{}",
        violations[0]
    );
    assert!(!violations[0].seen.contains("valkey-0"), "{}", violations[0]);
}

/// The ledger follows slots that move while it reads and writes.
#[needs(valkey)]
#[tokio::test]
async fn slots_on_the_move_are_followed() {
    let servers = Servers::cluster(3, 0).await;
    let held = written(&servers, u64::from(SLOT_COUNT), &WriteOptions::default()).await;
    let mut moving = Moving::begin(&servers, 77).await;
    moving.migrate(&held.ledger.spec().key(77)).await;
    assert_eq!(held.verify().await.violations(0), [], "half moved");
    for pod in servers.names() {
        assert!(
            walked(&servers, &pod).await,
            "{pod}'s count proves nothing while keys move"
        );
    }
    let report = held
        .ledger
        .write(&held.target, &WriteOptions::default())
        .await
        .expect("journalled");
    assert_eq!(report.acknowledged, u64::from(SLOT_COUNT), "{report:?}");
    moving.finish().await;
    assert_eq!(held.verify().await.violations(0), [], "moved");
}

/// A full server refuses writes, and a silent one leaves them unknown. Neither is a loss, and every
/// wait ends.
#[needs(valkey)]
#[tokio::test]
async fn refused_and_unanswered_writes_are_not_losses() {
    let servers = Servers::cluster(3, 0).await;
    let quick = WriteOptions {
        within: Duration::from_secs(2),
        answer_deadline: Duration::from_secs(1),
        ..WriteOptions::default()
    };
    let held = written(&servers, u64::from(SLOT_COUNT), &quick).await;
    run(
        &mut servers.connection("valkey-0").await,
        &["CONFIG", "SET", "maxmemory", "1"],
    )
    .await;
    let report = held.ledger.write(&held.target, &quick).await.expect("journalled");
    assert!(report.refused["OOM"] > 5000, "{report:?}");
    assert_eq!(
        held.verify().await.violations(0),
        [],
        "what was refused is not lost"
    );
    run(
        &mut servers.connection("valkey-0").await,
        &["CONFIG", "SET", "maxmemory", "0"],
    )
    .await;

    servers.signal("valkey-2", Signal::Stop);
    let report = held.ledger.write(&held.target, &quick).await.expect("journalled");
    assert!(
        report.unknown.keys().all(|cause| cause.starts_with("valkey-2: ")),
        "{report:?}"
    );
    let options = VerifyOptions {
        within: Duration::from_secs(2),
        answer_deadline: Duration::from_secs(1),
        ..VerifyOptions::default()
    };
    let silent = held.ledger.verify(&held.target, &options).await;
    assert_eq!(silent.of(Class::Lost), 0);
    assert!(silent.of(Class::Unverified) > 5000, "{:?}", silent.counts);
    assert!(!silent.violations(0).is_empty(), "what was not read is not green");
    servers.signal("valkey-2", Signal::Continue);
    crate::servers::until("the cluster to heal", || async {
        let all = held.ledger.verify(&held.target, &options).await;
        (all.violations(0).is_empty()).then_some(())
    })
    .await;
}

/// The harness is killed midway, and another one continues from the journal.
#[needs(valkey)]
#[tokio::test]
async fn an_interrupted_ledger_is_continued() {
    let servers = Servers::start(1, &[]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let target = target(&servers);
    let ledger = Ledger::create(dir.path(), spec(20_000, Mix::Varied)).expect("created");
    let options = WriteOptions::default();
    let writing = ledger.write(&target, &options);
    // Dropped midway, at any point of its work.
    let _ = tokio::time::timeout(Duration::from_millis(150), writing).await;
    std::mem::forget(ledger);
    let ledger = Ledger::open(dir.path()).expect("opened");
    let verification = ledger.verify(&target, &VerifyOptions::default()).await;
    assert_eq!(verification.violations(0), []);
    let report = ledger
        .write(&target, &WriteOptions::default())
        .await
        .expect("journalled");
    assert_eq!((report.generation, report.acknowledged), (2, 20_000));
    assert_eq!(
        ledger
            .verify(&target, &VerifyOptions::default())
            .await
            .violations(0),
        []
    );
}
