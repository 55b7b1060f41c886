//! Routing by slot, against a real cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::valkey::slots::{self, all, key_for_slot, key_slot};
use harness::valkey::{CommandError, Resend, Routed, RoutedClient};
use needs::needs;
use redis::Value;

use crate::servers::{Moving, Servers, ask, libc_signal::Signal, password};

fn client(servers: &Servers) -> RoutedClient {
    RoutedClient::new(Arc::new(servers.dialer()), Some(password()), servers.names())
}

#[needs(valkey)]
#[tokio::test]
async fn slots_are_computed_as_the_server_does() {
    let servers = Servers::cluster(1, 0).await;
    let mut connection = servers.connection("valkey-0").await;
    let keys: Vec<String> = all()
        .step_by(17)
        .flat_map(|slot| {
            let tag = key_for_slot(slot);
            [
                tag.clone(),
                format!("a{tag}b{{c}}"),
                format!("plain:{slot}"),
                format!("{{}}{slot}"),
                format!("{{{slot}"),
            ]
        })
        .collect();
    let mut questions = redis::pipe();
    for key in &keys {
        questions.cmd("CLUSTER").arg("KEYSLOT").arg(key);
    }
    let answers = connection
        .send_packed_commands(&questions, 0, keys.len())
        .await
        .expect("answers");
    for (key, answer) in keys.iter().zip(answers) {
        assert_eq!(answer, Value::Int(key_slot(key.as_bytes()).into()), "{key}");
    }
}

#[needs(valkey)]
#[tokio::test]
async fn every_slot_takes_a_key_and_redirects_are_followed() {
    let servers = Servers::cluster(3, 0).await;
    let client = client(&servers);
    let start = Instant::now();
    set_canaries(&client).await;
    assert_eq!(missing_canaries(&client).await, [0u16; 0]);
    eprintln!("16384 keys written and read in {:?}", start.elapsed());

    // Slot 5 moves without the client's knowledge, so the answer is MOVED.
    let mut moving = Moving::begin(&servers, 5).await;
    // The key is not at the source any more, so the answer is ASK.
    let moved_key = format!("new:{}", key_for_slot(5));
    let written = client
        .execute(
            5,
            redis::cmd("SET").arg(&moved_key).arg("1").to_owned(),
            Resend::Never,
        )
        .await;
    assert_eq!(written, Ok(Value::Okay));
    assert_eq!(
        ask(&mut moving.target, &["CLUSTER", "COUNTKEYSINSLOT", "5"]).await,
        Value::Int(1),
        "it was sent on by ASK"
    );
    moving.migrate(&key_for_slot(5)).await;
    moving.finish().await;
    assert_eq!(missing_canaries(&client).await, [0u16; 0], "MOVED is followed");
    assert_eq!(
        client.slot_map().await.owner(5),
        Some("valkey-1"),
        "and learnt from"
    );

    // One slot's key vanishes without the client's knowledge: exactly that slot is named.
    let lost = key_for_slot(12000);
    client
        .execute(12000, redis::cmd("DEL").arg(lost).to_owned(), Resend::Never)
        .await
        .expect("deleted");
    assert_eq!(missing_canaries(&client).await, [12000]);
}

/// Writes a key in every slot.
async fn set_canaries(client: &RoutedClient) {
    let answers = each_canary(client, |key| redis::cmd("SET").arg(key).arg(key).to_owned()).await;
    assert!(answers.iter().all(|(_, answer)| *answer == Value::Okay));
}

/// Returns the slots with a key that does not hold its own name.
async fn missing_canaries(client: &RoutedClient) -> Vec<u16> {
    let answers = each_canary(client, |key| redis::cmd("GET").arg(key).to_owned()).await;
    let wrong = answers
        .into_iter()
        .filter(|(slot, answer)| *answer != Value::BulkString(key_for_slot(*slot).into_bytes()));
    wrong.map(|(slot, _)| slot).collect()
}

async fn each_canary(client: &RoutedClient, command: impl Fn(&str) -> redis::Cmd) -> Vec<(u16, Value)> {
    let routed = |slot| Routed {
        slot,
        command: command(&key_for_slot(slot)),
    };
    let answers = client
        .execute_all(slots::all().map(routed).collect(), Resend::Idempotent)
        .await;
    let answers = answers.into_iter().map(|answer| answer.expect("an answer"));
    slots::all().zip(answers).collect()
}

#[needs(valkey)]
#[tokio::test]
async fn whether_a_command_was_executed_is_never_hidden() {
    let servers = Servers::start(1, &["--maxmemory", "1"]).await;
    let client = client(&servers).with_deadline(Duration::from_millis(600));
    let write = || redis::cmd("SET").arg("k").arg("v").to_owned();
    match client.execute(key_slot(b"k"), write(), Resend::Never).await {
        Err(CommandError::Refused { pod, code, .. }) => {
            assert_eq!((pod.as_str(), code.as_str()), ("valkey-0", "OOM"));
        }
        other => panic!("not refused: {other:?}"),
    }
    servers.signal("valkey-0", Signal::Stop);
    let stopped = client.execute(0, write(), Resend::Never).await;
    servers.signal("valkey-0", Signal::Continue);
    assert!(
        matches!(stopped, Err(CommandError::Unknown { .. })),
        "{stopped:?}"
    );
    let mut servers = servers;
    servers.kill("valkey-0");
    let dead = client.execute(0, write(), Resend::Never).await;
    assert!(
        matches!(
            dead,
            Err(CommandError::GaveUp { .. } | CommandError::Unknown { .. })
        ),
        "{dead:?}"
    );
}

/// For a slot without an owner, the error explains for each pod why it did not name the owner.
#[needs(valkey)]
#[tokio::test]
async fn what_is_known_of_silent_pods_is_said() {
    let mut servers = Servers::start(1, &[]).await;
    servers.kill("valkey-0");
    let hurried = client(&servers).with_deadline(Duration::from_millis(100));
    let get = redis::cmd("GET").arg("k").to_owned();
    let error = hurried
        .execute(5, get, Resend::Never)
        .await
        .expect_err("nobody is there");
    let text = error.to_string();
    let expected = "slot 5 has no known owner; valkey-0: connection refused";
    assert!(text.contains(expected), "{text}");
}
