//! The chart's scripts against real servers: formation, full restart, scaling, and probes.

mod servers;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use manifests::HookEvent;
use needs::needs;
use rstest::rstest;
use servers::{PASSWORD, Servers, fail, manifests, succeed};

#[needs(valkey)]
#[test]
fn formation_is_complete_and_a_second_run_changes_nothing() {
    let servers = Servers::start(6);
    succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    servers.assert_formed(6);
    assert_eq!(
        servers.slots().into_iter().collect::<Vec<_>>(),
        [(0, 5461), (1, 5462), (2, 5461)]
    );
    for replica in 3..6 {
        let info = servers.cli(replica, &["info", "replication"]);
        assert!(
            info.contains("role:slave") && info.contains("master_link_status:up"),
            "{info}"
        );
    }
    let epoch = |servers: &Servers| {
        servers
            .cli(0, &["cluster", "info"])
            .lines()
            .find(|l| l.contains("current_epoch"))
            .map(str::to_owned)
    };
    let before = epoch(&servers);
    let log = succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    assert!(log.contains("nothing to do"), "{log}");
    assert_eq!(epoch(&servers), before);
}

#[needs(valkey)]
#[rstest]
#[case::slots_given_nobody_met(&[(0, &["cluster", "addslotsrange", "0", "5460"] as &[_])])]
#[case::half_of_the_slots(&[(1, &["cluster", "addslotsrange", "5461", "7000"] as &[_])])]
#[case::epoch_set(&[(2, &["cluster", "set-config-epoch", "9"] as &[_])])]
fn an_interrupted_formation_is_completed(#[case] done_before: &[(u32, &[&str])]) {
    let servers = Servers::start(6);
    for (ordinal, command) in done_before {
        servers.cli(*ordinal, command);
    }
    let (first, second) = (servers.address(0), servers.address(1));
    assert_ne!(first, second);
    servers.cli(3, &["cluster", "meet", &first, "6379"]);
    succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    servers.assert_formed(6);
    assert_eq!(servers.slots().len(), 3);
}

#[needs(valkey)]
#[test]
fn an_init_job_that_cannot_finish_names_the_pod() {
    let servers = Servers::start(5);
    let log = fail(servers.hook(HookEvent::PostInstall, 6, &[("TIMEOUT_SECONDS", "1")]));
    assert!(
        log.contains(&format!(
            "gave up after 1 s: pod {} to answer PING",
            servers.address(5)
        )),
        "{log}"
    );
}

#[needs(valkey)]
#[test]
fn peers_find_each_other_on_new_addresses() {
    let mut servers = Servers::start(6);
    succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    servers.write_keys(500);
    // After a full synchronisation, a replica's append-only file stays old and empty until it is
    // rewritten. A replica killed before that comes back without data. That is Valkey's behaviour
    // and not tested here.
    servers.until("every append-only file to be rewritten", |servers| {
        (0..6).all(|ordinal| {
            let info = servers.cli(ordinal, &["info", "persistence"]);
            info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
        })
    });
    servers.restart_all_elsewhere();
    let alone = servers.cli(0, &["cluster", "nodes"]);
    assert!(
        !alone.contains(&servers.address(1)),
        "the stale addresses are what this test is about:\n{alone}"
    );
    let introducers = Introducers::start(&servers, 6);
    let addresses: Vec<_> = (0..6)
        .map(|ordinal| format!(" {}:6379@", servers.address(ordinal)))
        .collect();
    servers.until("every server to hold every new address", |servers| {
        (0..6).all(|ordinal| {
            let nodes = servers.cli(ordinal, &["cluster", "nodes"]);
            addresses.iter().all(|address| nodes.contains(address)) && !nodes.contains("disconnected")
        })
    });
    servers.until_formed(6);
    assert_eq!(
        servers.intact_keys(500),
        500,
        "{}",
        servers.cli(0, &["cluster", "nodes"])
    );
    drop(introducers);
}

#[needs(valkey)]
#[test]
fn scaling_up_and_down_keeps_every_key() {
    let mut servers = Servers::start(6);
    succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    servers.write_keys(2000);
    for _ in 0..2 {
        servers.start_one(6, &[]);
        servers.start_one(7, &[]);
        succeed(servers.hook(HookEvent::PostUpgrade, 8, &[]));
        servers.assert_formed(8);
        assert_eq!(servers.slots().into_values().collect::<Vec<_>>(), [4096; 4]);
        assert_eq!(servers.intact_keys(2000), 2000);
        assert_changes_nothing(&servers, HookEvent::PostUpgrade, 8);

        succeed(servers.hook(HookEvent::PreUpgrade, 6, &[]));
        servers.assert_formed(6);
        assert_changes_nothing(&servers, HookEvent::PreUpgrade, 6);
        servers.kill(6);
        servers.kill(7);
        succeed(servers.hook(HookEvent::PostUpgrade, 6, &[]));
        servers.assert_formed(6);
        assert!(
            servers.slots().values().all(|slots| slots.abs_diff(5461) <= 1),
            "{:?}",
            servers.slots()
        );
        assert_eq!(servers.intact_keys(2000), 2000);
    }
}

/// Runs a hook again after its work is done. Roles, slots and epochs must stay the same.
#[track_caller]
fn assert_changes_nothing(servers: &Servers, event: HookEvent, count: u32) {
    let table = || -> Vec<String> {
        let nodes = servers.cli(0, &["cluster", "nodes"]);
        let mut nodes: Vec<String> = nodes
            .lines()
            .map(|line| {
                let words: Vec<_> = line.split(' ').collect();
                // Leaves out the times of the last pings.
                [&words[..4], &words[6..]].concat().join(" ")
            })
            .collect();
        nodes.sort();
        nodes
    };
    let before = table();
    let log = succeed(servers.hook(event, count, &[]));
    assert_eq!(table(), before, "{log}");
    assert!(!log.contains("moving") && !log.contains("becomes"), "{log}");
}

/// Starts a hook, and kills it as soon as it reports that slots are moving.
#[track_caller]
fn kill_while_slots_move(servers: &Servers, event: HookEvent, count: u32) {
    let mut job = servers
        .hook(event, count, &[])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let log = BufReader::new(job.stdout.take().expect("piped"));
    // These words announce an atomic migration, which these servers support.
    let moving = log
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("moving the slots"));
    assert!(moving.is_some(), "the oracle: it was killed while it moved slots");
    job.kill().expect("it is ours");
    job.wait().expect("it is ours");
}

#[needs(valkey)]
#[test]
fn a_drain_job_killed_midway_is_completed_by_the_next() {
    let mut servers = Servers::start(8);
    succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    servers.write_keys(1000);
    succeed(servers.hook(HookEvent::PostUpgrade, 8, &[]));
    assert_eq!(servers.slots().get(&6), Some(&4096), "what leaves has slots");
    kill_while_slots_move(&servers, HookEvent::PreUpgrade, 6);
    assert!(
        servers
            .cli(0, &["cluster", "info"])
            .contains("cluster_known_nodes:8"),
        "the oracle: it was not done"
    );
    succeed(servers.hook(HookEvent::PreUpgrade, 6, &[]));
    servers.assert_formed(6);
    servers.kill(6);
    servers.kill(7);
    assert_eq!(servers.slots().len(), 3);
    assert_eq!(servers.intact_keys(1000), 1000);
}

/// A wrapper around the real client that hides the servers' atomic slot migration.
const WITHOUT_ATOMIC_MIGRATION: &str = r#"#!/bin/sh
case " $* " in
  *" MIGRATESLOTS "*) echo "ERR unknown subcommand 'MIGRATESLOTS'. Try CLUSTER HELP."; exit 1 ;;
  *" GETSLOTMIGRATIONS "*) echo "ERR unknown subcommand 'GETSLOTMIGRATIONS'. Try CLUSTER HELP."; exit 1 ;;
esac
exec "$(dirname "$0")/real-valkey-cli" "$@"
"#;

#[needs(valkey)]
#[test]
fn where_slots_cannot_move_atomically_they_move_key_by_key() {
    let servers = Servers::start(8);
    succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    servers.write_keys(500);
    servers.put_in_front_of_the_client(WITHOUT_ATOMIC_MIGRATION);
    let log = succeed(servers.hook(HookEvent::PostUpgrade, 8, &[]));
    assert!(
        log.contains("key by key") && !log.contains("moving the slots"),
        "{log}"
    );
    servers.assert_formed(8);
    assert_eq!(servers.slots().into_values().collect::<Vec<_>>(), [4096; 4]);
    assert_eq!(servers.intact_keys(500), 500);
}

#[needs(valkey)]
#[test]
fn a_scale_job_killed_midway_is_completed_by_the_next() {
    let servers = Servers::start(8);
    succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    servers.write_keys(1000);
    kill_while_slots_move(&servers, HookEvent::PostUpgrade, 8);
    assert_ne!(
        servers.slots().get(&6),
        Some(&4096),
        "the oracle: it was not done"
    );
    succeed(servers.hook(HookEvent::PostUpgrade, 8, &[]));
    servers.assert_formed(8);
    assert_eq!(servers.slots().into_values().collect::<Vec<_>>(), [4096; 4]);
    assert_eq!(servers.intact_keys(1000), 1000);
}

#[needs(valkey)]
#[test]
fn without_draining_a_replica_takes_over_and_volumes_return() {
    let mut servers = Servers::start(8);
    succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    servers.write_keys(1000);
    succeed(servers.hook(HookEvent::PostUpgrade, 8, &[]));
    servers.kill(6);
    servers.kill(7);
    succeed(servers.hook(HookEvent::PostUpgrade, 6, &[]));
    servers.assert_formed(6);
    assert_eq!(servers.slots().len(), 3);
    assert_eq!(servers.intact_keys(1000), 1000);

    servers.start_one(6, &[]);
    servers.start_one(7, &[]);
    let log = succeed(servers.hook(HookEvent::PostUpgrade, 8, &[]));
    // Under their old IDs, nodes are banned for a minute after being forgotten. They may still find
    // the others by themselves before the Job looks.
    let emptied = "comes with an earlier cluster's state";
    assert!(log.contains(emptied) || log.contains("one replica more"), "{log}");
    servers.assert_formed(8);
    assert_eq!(servers.slots().len(), 4);
    assert_eq!(servers.intact_keys(1000), 1000);
}

/// New pods may be replicas already, if they came back with old volumes and found the cluster. One
/// of them becomes a primary.
#[needs(valkey)]
#[test]
fn a_replica_too_many_becomes_the_primary_that_is_missing() {
    let mut servers = Servers::start(6);
    succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    servers.write_keys(1000);
    for newcomer in [6, 7] {
        servers.start_one(newcomer, &[]);
        servers.cli(newcomer, &["CLUSTER", "MEET", &servers.address(0), "6379"]);
        let primary = servers.cli(0, &["CLUSTER", "MYID"]);
        servers.until("the newcomer to follow pod 0", |servers| {
            let followed = servers.try_cli(newcomer, &["CLUSTER", "REPLICATE", &primary]);
            followed.status.success()
        });
    }
    servers.until_formed(8);
    let log = succeed(servers.hook(HookEvent::PostUpgrade, 8, &[]));
    assert!(
        log.contains("is one replica more than its primary needs"),
        "{log}"
    );
    servers.assert_formed(8);
    assert_eq!(servers.slots().into_values().collect::<Vec<_>>(), [4096; 4]);
    assert_eq!(servers.intact_keys(1000), 1000);
    assert_changes_nothing(&servers, HookEvent::PostUpgrade, 8);
}

#[needs(valkey)]
#[test]
fn a_changed_password_does_not_fail_the_upgrades_hooks() {
    let servers = Servers::start(6);
    succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    let changed = [("REDISCLI_AUTH", "another")];
    let log = succeed(servers.hook(HookEvent::PreUpgrade, 6, &changed));
    assert!(log.contains("none departs"), "{log}");
    let log = succeed(servers.hook(HookEvent::PostUpgrade, 6, &changed));
    assert!(log.contains("previous password"), "{log}");
    assert!(!log.contains(PASSWORD) && !log.contains("another"), "{log}");
}

#[needs(valkey)]
#[test]
fn probes_tell_loading_from_dead_and_formed_from_not_formed() {
    let mut servers = Servers::start(6);
    let spec = manifests(6)
        .stateful_set
        .spec
        .template
        .spec
        .expect("a pod template");
    let server = &spec.containers[0];
    let command = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
        probe
            .as_ref()
            .and_then(|probe| probe.exec.as_ref()?.command.clone())
            .expect("an exec probe")
    };
    let (alive, ready) = (command(&server.liveness_probe), command(&server.readiness_probe));
    assert!(
        servers.probe(&alive, 0) && !servers.probe(&ready, 0),
        "alive and not formed"
    );
    succeed(servers.hook(HookEvent::PostInstall, 6, &[]));
    assert!((0..6).all(|ordinal| servers.probe(&ready, ordinal)), "formed");

    // Slot 2592 belongs to server 0. Loading takes a second for each query below, and some to
    // spare.
    let fill = "for i = 1, 10000 do redis.call('SET', KEYS[1] .. i, i) end";
    servers.cli(0, &["eval", fill, "1", "{key:0}"]);
    servers.kill(0);
    assert!(!servers.probe(&alive, 0), "dead");
    servers.start_one_loading(0);
    assert!(
        servers.probe(&alive, 0) && !servers.probe(&ready, 0),
        "loading is alive and not ready"
    );
}

/// The containers that introduce peers, one for each server. Dropping this value ends them.
struct Introducers(Vec<Child>);

impl Introducers {
    fn start(servers: &Servers, count: u32) -> Self {
        let start = |ordinal| {
            servers
                .introducer(ordinal)
                .stdout(Stdio::null())
                .spawn()
                .expect("the script runs")
        };
        Self((0..count).map(start).collect())
    }
}

impl Drop for Introducers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
