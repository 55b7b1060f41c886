//! Observations for the tests of the checks, made from the texts that servers send. A test mutates
//! what a server would say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::Timestamp;

use valkey::cluster_info::ClusterInfo;
use valkey::cluster_nodes::ClusterNodes;
use valkey::cluster_shards::{Shard, ShardNode};
use valkey::info::{Info, Persistence, Replication, Server};
use valkey::observation::{ClusterObservation, ExpectedTopology, PodFacts};
use valkey::view::NodeView;

/// The texts that one server sends.
struct Texts {
    cluster_info: String,
    nodes: String,
    info: String,
    shards: Vec<Shard>,
}

/// A release that lets a test edit the servers' texts before they become an observation.
pub struct Fixture {
    /// The topology that the values promise.
    pub expected: ExpectedTopology,
    /// The pods as Kubernetes reports them.
    pub pods: Vec<PodFacts>,
    /// True if each pod has a password for its primary.
    pub primary_auth_set: BTreeMap<String, bool>,
    /// Pods that have an outdated password for their primary.
    pub stale_primary_auth: BTreeSet<String>,
    /// Number of keys of each pod.
    pub dbsize: BTreeMap<String, u64>,
    texts: BTreeMap<String, Texts>,
}

/// The node ID of the pod with this ordinal.
pub fn id(ordinal: u32) -> String {
    let digit = char::from_digit(ordinal, 16).expect("fewer than 16 pods");
    digit.to_string().repeat(40)
}

fn ip(ordinal: u32) -> String {
    format!("10.244.0.{}", 10 + ordinal)
}

fn pod(ordinal: u32) -> PodFacts {
    PodFacts {
        name: format!("valkey-{ordinal}"),
        ordinal: Some(ordinal),
        ip: Some(ip(ordinal)),
        uid: format!("uid-{ordinal}"),
        ready: true,
        node: Some("node-1".to_owned()),
        terminating: false,
        restart_count: 0,
        last_termination: None,
    }
}

const PERSISTENCE: &str = "# Persistence\r\nloading:0\r\nrdb_last_bgsave_status:ok\r\naof_enabled:1\r\naof_last_bgrewrite_status:ok\r\naof_last_write_status:ok\r\n";

fn server(ordinal: u32) -> String {
    format!(
        "# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.0.3\r\nrun_id:run-{ordinal}\r\nprocess_id:1\r\nuptime_in_seconds:60\r\n"
    )
}

impl Fixture {
    /// A healthy cluster as `valkey-cli --cluster create` lays it out: pods 0..P are the primaries.
    pub fn cluster(pods: u32, replicas_per_primary: u32) -> Self {
        let expected = ExpectedTopology::cluster(pods, replicas_per_primary);
        let primaries = expected.primaries();
        let mut table = String::new();
        let mut shards = vec![Shard::default(); primaries as usize];
        for (index, shard) in shards.iter_mut().enumerate() {
            let index = u32::try_from(index).expect("few shards");
            // 5461/5462/5461: the rounding of `--cluster create`.
            let bound = |n: u32| (f64::from(n) * 16384.0 / f64::from(primaries)).round() as u16;
            shard.id = Some(format!("shard-{index}"));
            shard.slots = [valkey::slots::SlotRange {
                start: bound(index),
                end: bound(index + 1) - 1,
            }]
            .into_iter()
            .collect();
        }
        for ordinal in 0..pods {
            let shard = &mut shards[(ordinal % primaries) as usize];
            let is_primary = ordinal < primaries;
            let (role, of, slots) = if is_primary {
                ("master", "-".to_owned(), format!(" {}", shard.slots))
            } else {
                ("slave", id(ordinal % primaries), String::new())
            };
            let epoch = ordinal % primaries + 1;
            writeln!(
                table,
                "{} {}:6379@16379 {role} {of} 0 1000 {epoch} connected{slots}",
                id(ordinal),
                ip(ordinal)
            )
            .expect("writing to a String cannot fail");
            shard.nodes.push(ShardNode {
                id: id(ordinal),
                ip: ip(ordinal),
                port: 6379,
                role: if is_primary { "master" } else { "replica" }.to_owned(),
                replication_offset: 140,
                health: "online".to_owned(),
            });
        }
        let cluster_info = format!(
            "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\n\
             cluster_slots_fail:0\r\ncluster_known_nodes:{pods}\r\ncluster_size:{primaries}\r\n\
             cluster_current_epoch:{pods}\r\ncluster_my_epoch:1\r\n"
        );
        let texts = (0..pods)
            .map(|ordinal| {
                let nodes = table
                    .replace(&format!("{} {}:6379@16379 ", id(ordinal), ip(ordinal)), "<me>")
                    .replace(
                        "<me>",
                        &format!("{} {}:6379@16379 myself,", id(ordinal), ip(ordinal)),
                    );
                let replication = if ordinal < primaries {
                    let attached: Vec<String> = (primaries..pods)
                        .filter(|replica| replica % primaries == ordinal)
                        .enumerate()
                        .map(|(n, replica)| {
                            format!(
                                "slave{n}:ip={},port=6379,state=online,offset=140,lag=0\r\n",
                                ip(replica)
                            )
                        })
                        .collect();
                    format!(
                        "role:master\r\nconnected_slaves:{}\r\n{}master_repl_offset:140\r\n",
                        attached.len(),
                        attached.concat()
                    )
                } else {
                    format!(
                        "role:slave\r\nmaster_host:{}\r\nmaster_link_status:up\r\nslave_repl_offset:140\r\n\
                         connected_slaves:0\r\nmaster_repl_offset:140\r\n",
                        ip(ordinal % primaries)
                    )
                };
                let info = format!("{}# Replication\r\n{replication}{PERSISTENCE}", server(ordinal));
                let texts = Texts {
                    cluster_info: cluster_info.clone(),
                    nodes,
                    info,
                    shards: shards.clone(),
                };
                (format!("valkey-{ordinal}"), texts)
            })
            .collect();
        Self {
            expected,
            pods: (0..pods).map(pod).collect(),
            primary_auth_set: BTreeMap::new(),
            stale_primary_auth: BTreeSet::new(),
            dbsize: BTreeMap::new(),
            texts,
        }
    }

    /// Empty nodes that have not met.
    pub fn unformed(pods: u32) -> Self {
        let mut fixture = Self::cluster(pods, 1);
        for ordinal in 0..pods {
            let texts = fixture
                .texts
                .get_mut(&format!("valkey-{ordinal}"))
                .expect("made above");
            texts.cluster_info = "cluster_state:fail\ncluster_slots_assigned:0\ncluster_slots_ok:0\ncluster_slots_pfail:0\ncluster_slots_fail:0\ncluster_known_nodes:1\ncluster_size:0\ncluster_current_epoch:0\ncluster_my_epoch:0\n".to_owned();
            texts.nodes = format!(
                "{} {}:6379@16379 myself,master - 0 0 0 connected\n",
                id(ordinal),
                ip(ordinal)
            );
            texts.info = format!(
                "{}role:master\nconnected_slaves:0\nmaster_repl_offset:0\n{PERSISTENCE}",
                server(ordinal)
            );
            texts.shards = Vec::new();
            fixture.pods[ordinal as usize].ready = false;
        }
        fixture
    }

    /// One healthy standalone server.
    pub fn standalone() -> Self {
        let info = format!(
            "{}role:master\r\nconnected_slaves:0\r\nmaster_repl_offset:0\r\n{PERSISTENCE}",
            server(0)
        );
        let texts = Texts {
            cluster_info: String::new(),
            nodes: String::new(),
            info,
            shards: Vec::new(),
        };
        Self {
            expected: ExpectedTopology::standalone(1),
            pods: vec![pod(0)],
            primary_auth_set: BTreeMap::new(),
            stale_primary_auth: BTreeSet::new(),
            dbsize: BTreeMap::new(),
            texts: BTreeMap::from([("valkey-0".to_owned(), texts)]),
        }
    }

    /// Replaces text in one node's CLUSTER NODES.
    #[track_caller]
    pub fn edit(&mut self, pod: &str, from: &str, to: &str) {
        replace(&mut self.texts.get_mut(pod).expect("such a pod").nodes, from, to);
    }

    /// Replaces text in every node's CLUSTER NODES, where it occurs.
    pub fn edit_all(&mut self, from: &str, to: &str) {
        for texts in self.texts.values_mut() {
            texts.nodes = texts.nodes.replace(from, to);
        }
    }

    /// Adds a line to one node's CLUSTER NODES.
    pub fn append(&mut self, pod: &str, line: &str) {
        let nodes = &mut self.texts.get_mut(pod).expect("such a pod").nodes;
        nodes.push_str(line);
        nodes.push('\n');
    }

    /// Removes the lines that contain `part` from one node's CLUSTER NODES.
    #[track_caller]
    pub fn remove_line(&mut self, pod: &str, part: &str) {
        let nodes = &mut self.texts.get_mut(pod).expect("such a pod").nodes;
        let kept: Vec<&str> = nodes.lines().filter(|line| !line.contains(part)).collect();
        assert_ne!(kept.len(), nodes.lines().count(), "no line has {part:?}");
        *nodes = kept.join("\n");
    }

    /// Replaces text in one node's CLUSTER INFO.
    #[track_caller]
    pub fn edit_cluster_info(&mut self, pod: &str, from: &str, to: &str) {
        replace(
            &mut self.texts.get_mut(pod).expect("such a pod").cluster_info,
            from,
            to,
        );
    }

    /// Replaces text in one node's INFO.
    #[track_caller]
    pub fn edit_info(&mut self, pod: &str, from: &str, to: &str) {
        replace(&mut self.texts.get_mut(pod).expect("such a pod").info, from, to);
    }

    /// One node's CLUSTER SHARDS.
    pub fn shards_mut(&mut self, pod: &str) -> &mut Vec<Shard> {
        &mut self.texts.get_mut(pod).expect("such a pod").shards
    }

    /// Swaps two nodes as after a failover: exchanges their names in every text of every server.
    pub fn swap_roles(&mut self, one: &str, other: &str) {
        let ordinal = |name: &str| {
            name.rsplit('-')
                .next()
                .and_then(|n| n.parse().ok())
                .expect("an ordinal")
        };
        let (a, b): (u32, u32) = (ordinal(one), ordinal(other));
        let swap = |text: &str| {
            text.replace(&id(a), "<a>")
                .replace(&id(b), &id(a))
                .replace("<a>", &id(b))
                .replace(&format!("{}:", ip(a)), "<a>")
                .replace(&format!("{}:", ip(b)), &format!("{}:", ip(a)))
                .replace("<a>", &format!("{}:", ip(b)))
                .replace(&format!("{}\r", ip(a)), "<a>")
                .replace(&format!("{}\r", ip(b)), &format!("{}\r", ip(a)))
                .replace("<a>", &format!("{}\r", ip(b)))
        };
        for texts in self.texts.values_mut() {
            texts.nodes = swap(&texts.nodes);
            texts.info = swap(&texts.info);
            for node in texts.shards.iter_mut().flat_map(|shard| &mut shard.nodes) {
                node.id = swap(&node.id);
            }
        }
        let first = self.texts.remove(one).expect("such a pod");
        let second = self.texts.insert(other.to_owned(), first).expect("such a pod");
        self.texts.insert(one.to_owned(), second);
    }

    /// Parses all texts.
    pub fn observation(&self) -> ClusterObservation {
        let views = self
            .texts
            .iter()
            .map(|(pod, texts)| (pod.clone(), Ok(self.view(pod, texts))))
            .collect();
        ClusterObservation {
            expected: self.expected.clone(),
            at: Timestamp::UNIX_EPOCH,
            pods: self.pods.clone(),
            views,
        }
    }

    fn view(&self, pod: &str, texts: &Texts) -> NodeView {
        let clustered = !texts.cluster_info.is_empty();
        let info = Info::parse(&texts.info).expect("INFO parses");
        NodeView {
            pod: pod.to_owned(),
            at: Timestamp::UNIX_EPOCH,
            cluster_info: clustered
                .then(|| ClusterInfo::parse(&texts.cluster_info).expect("CLUSTER INFO parses")),
            nodes: clustered.then(|| ClusterNodes::parse(&texts.nodes).expect("CLUSTER NODES parses")),
            shards: clustered.then(|| texts.shards.clone()),
            slot_migrations: None,
            replication: Replication::from_info(&info).expect("replication is complete"),
            persistence: Persistence::from_info(&info).expect("persistence is complete"),
            memory: None,
            server: Server::from_info(&info).expect("server is complete"),
            dbsize: self.dbsize.get(pod).copied().unwrap_or(0),
            data_dir: Some("/data".to_owned()),
            primary_auth_set: Some(self.primary_auth_set.get(pod).copied().unwrap_or(true)),
            primary_auth_matches: Some(!self.stale_primary_auth.contains(pod)),
            password_required: Some(true),
        }
    }
}

#[track_caller]
fn replace(text: &mut String, from: &str, to: &str) {
    assert!(text.contains(from), "the fixture has no {from:?}:\n{text}");
    *text = text.replace(from, to);
}
