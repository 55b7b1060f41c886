//! Parser for `CLUSTER NODES` and the node lines of `nodes.conf`, which have the same form.
//!
//! Source: Valkey command reference, CLUSTER NODES, "Serialization format".

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::parse_error::ParseError;
use super::slots::{self, SlotSet};

const COMMAND: &str = "CLUSTER NODES";

/// All nodes that one node knows, itself included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNodes {
    /// The nodes in the server's order, which has no meaning.
    pub nodes: Vec<ClusterNode>,
}

/// One line: a node from the point of view of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNode {
    /// 40 hexadecimal characters.
    pub id: String,
    /// The announced address; empty when the node has none (`noaddr`).
    pub ip: String,
    /// The client port.
    pub port: u16,
    /// The cluster bus port, when given.
    pub bus_port: Option<u16>,
    /// The announced hostname, when there is one.
    pub hostname: Option<String>,
    /// Auxiliary fields such as `shard-id`.
    pub aux: BTreeMap<String, String>,
    /// Role and state, in the server's words, with `slave` and `master` renamed.
    pub flags: BTreeSet<Flag>,
    /// For a replica, the id of its primary.
    pub primary: Option<String>,
    /// Time of the pending ping, in milliseconds of UNIX time; 0 when none is pending.
    pub ping_sent: u64,
    /// Time of the last pong, in milliseconds of UNIX time.
    pub pong_received: u64,
    /// The node's config epoch, or its primary's.
    pub config_epoch: u64,
    /// True if the bus link to the node is up.
    pub link_connected: bool,
    /// The slots that the node owns.
    pub slots: SlotSet,
    /// Slots that leave the node, with the ID of the destination node.
    pub migrating: BTreeMap<u16, String>,
    /// Slots that come to the node, with the ID of the source node.
    pub importing: BTreeMap<u16, String>,
}

/// A node flag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flag {
    /// The node that answered.
    Myself,
    /// `master` or `primary`.
    Primary,
    /// `slave` or `replica`.
    Replica,
    /// `fail?`: the answering node cannot reach this node, others may.
    PossiblyFailed,
    /// `fail`: a majority of primaries cannot reach the node.
    Failed,
    /// The handshake is not complete.
    Handshake,
    /// No address is known.
    NoAddress,
    /// The replica never fails over.
    NoFailover,
    /// A flag this version of the harness does not know.
    Unknown(String),
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Myself => "myself",
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::PossiblyFailed => "fail?",
            Self::Failed => "fail",
            Self::Handshake => "handshake",
            Self::NoAddress => "noaddr",
            Self::NoFailover => "nofailover",
            Self::Unknown(text) => text,
        })
    }
}

impl ClusterNodes {
    /// Parses the answer's text. The `vars` line of a `nodes.conf` is skipped.
    ///
    /// # Errors
    /// Names the line and the field that is not as documented.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let nodes = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with("vars "))
            .map(|(index, line)| {
                parse_line(line).map_err(|problem| ParseError::new(COMMAND, index + 1, problem, line))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { nodes })
    }

    /// Returns the node that answered.
    pub fn myself(&self) -> Option<&ClusterNode> {
        self.nodes.iter().find(|node| node.has(&Flag::Myself))
    }

    /// Returns the node with this ID.
    pub fn by_id(&self, id: &str) -> Option<&ClusterNode> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Returns the primaries, with or without slots.
    pub fn primaries(&self) -> impl Iterator<Item = &ClusterNode> {
        self.nodes.iter().filter(|node| node.is_primary())
    }

    /// Returns the replicas of the node with this ID.
    pub fn replicas_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a ClusterNode> {
        self.nodes
            .iter()
            .filter(move |node| node.is_replica() && node.primary.as_deref() == Some(id))
    }

    /// Returns the owners of a slot in this view: exactly one in a healthy cluster.
    pub fn owners_of(&self, slot: u16) -> impl Iterator<Item = &ClusterNode> {
        self.nodes.iter().filter(move |node| node.slots.contains(slot))
    }
}

impl ClusterNode {
    /// Returns true if the node carries this flag.
    pub fn has(&self, flag: &Flag) -> bool {
        self.flags.contains(flag)
    }

    /// Returns true if the node is a primary.
    pub fn is_primary(&self) -> bool {
        self.has(&Flag::Primary)
    }

    /// Returns true if the node is a replica.
    pub fn is_replica(&self) -> bool {
        self.has(&Flag::Replica)
    }

    /// Returns the first eight characters of the ID, which suffice for people.
    pub fn short_id(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }

    /// Returns `ip:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.ip, self.port)
    }

    /// Returns the flags as `primary,fail`.
    pub fn flags_text(&self) -> String {
        self.flags
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// Parses `id ip:port@cport[,hostname[,aux=value…]] flags primary ping pong epoch link slot…`.
fn parse_line(line: &str) -> Result<ClusterNode, String> {
    let mut fields = line.split_ascii_whitespace();
    let mut next = |name: &str| fields.next().ok_or_else(|| format!("there is no {name}"));
    let id = next("node id")?;
    let address = parse_address(next("address")?)?;
    let flags = next("flags")?.split(',').filter_map(parse_flag).collect();
    let primary = next("primary id")?;
    let mut node = ClusterNode {
        id: id.to_owned(),
        ip: address.ip,
        port: address.port,
        bus_port: address.bus_port,
        hostname: address.hostname,
        aux: address.aux,
        flags,
        primary: (primary != "-").then(|| primary.to_owned()),
        ping_sent: parse_number(next("ping-sent")?, "ping-sent")?,
        pong_received: parse_number(next("pong-recv")?, "pong-recv")?,
        config_epoch: parse_number(next("config-epoch")?, "config-epoch")?,
        link_connected: next("link-state")? == "connected",
        slots: SlotSet::default(),
        migrating: BTreeMap::new(),
        importing: BTreeMap::new(),
    };
    fields.try_for_each(|field| parse_slot_field(&mut node, field))?;
    Ok(node)
}

fn parse_number(text: &str, name: &str) -> Result<u64, String> {
    // Some releases print -1 for "never".
    if text == "-1" {
        return Ok(0);
    }
    text.parse()
        .map_err(|_| format!("{name} {text:?} is not a number"))
}

struct Address {
    ip: String,
    port: u16,
    bus_port: Option<u16>,
    hostname: Option<String>,
    aux: BTreeMap<String, String>,
}

fn parse_address(text: &str) -> Result<Address, String> {
    let mut parts = text.split(',');
    let endpoint = parts.next().unwrap_or_default();
    let (endpoint, bus_port) = match endpoint.split_once('@') {
        None => (endpoint, None),
        Some((endpoint, bus)) => (
            endpoint,
            Some(
                bus.parse()
                    .map_err(|_| format!("bus port {bus:?} is not a port"))?,
            ),
        ),
    };
    // The last colon, as an IPv6 address contains others.
    let (ip, port) = endpoint
        .rsplit_once(':')
        .ok_or_else(|| format!("address {endpoint:?} has no port"))?;
    let port = port.parse().map_err(|_| format!("port {port:?} is not a port"))?;
    let mut hostname = None;
    let mut aux = BTreeMap::new();
    for part in parts {
        match part.split_once('=') {
            Some((name, value)) => {
                aux.insert(name.to_owned(), value.to_owned());
            }
            None if !part.is_empty() => hostname = Some(part.to_owned()),
            None => {}
        }
    }
    Ok(Address {
        ip: ip.to_owned(),
        port,
        bus_port,
        hostname,
        aux,
    })
}

fn parse_flag(text: &str) -> Option<Flag> {
    Some(match text {
        "" | "noflags" => return None,
        "myself" => Flag::Myself,
        "master" | "primary" => Flag::Primary,
        "slave" | "replica" => Flag::Replica,
        "fail?" => Flag::PossiblyFailed,
        "fail" => Flag::Failed,
        "handshake" => Flag::Handshake,
        "noaddr" => Flag::NoAddress,
        "nofailover" => Flag::NoFailover,
        other => Flag::Unknown(other.to_owned()),
    })
}

/// Parses `5`, `0-5460`, `[93->-id]` (migrating to id) or `[93-<-id]` (importing from id).
fn parse_slot_field(node: &mut ClusterNode, field: &str) -> Result<(), String> {
    let Some(open) = field.strip_prefix('[') else {
        node.slots.insert(slots::parse_range(field)?);
        return Ok(());
    };
    let open = open
        .strip_suffix(']')
        .ok_or_else(|| format!("open slot {field:?} is not closed"))?;
    if let Some((slot, target)) = open.split_once("->-") {
        node.migrating.insert(slots::parse_slot(slot)?, target.to_owned());
    } else if let Some((slot, source)) = open.split_once("-<-") {
        node.importing.insert(slots::parse_slot(slot)?, source.to_owned());
    } else {
        return Err(format!("open slot {field:?} has no direction"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "f05f3706e2fcd4bac7fe73d24cb4e155ffe5f5ee";

    fn one(rest: &str) -> ClusterNode {
        ClusterNodes::parse(&format!("{ID} {rest}\n"))
            .expect("parses")
            .nodes
            .remove(0)
    }

    #[test]
    fn a_servers_answer_is_understood() {
        let node = one("10.244.0.7:6379@16379 myself,master - 0 1795392449263 3 connected 0-5460 7000");
        assert_eq!(
            (node.ip.as_str(), node.port, node.bus_port),
            ("10.244.0.7", 6379, Some(16379))
        );
        assert!(node.is_primary() && node.has(&Flag::Myself) && node.link_connected);
        assert_eq!(node.slots.to_string(), "0-5460,7000");
        assert_eq!(node.config_epoch, 3);
    }

    #[test]
    fn both_vocabularies_and_any_flag_order_mean_the_same() {
        let old = one("10.0.0.1:6379@16379 myself,slave aa 0 0 1 connected");
        let new = one("10.0.0.1:6379@16379 replica,myself aa 0 0 1 connected");
        assert_eq!(old, new);
        assert_eq!(old.primary.as_deref(), Some("aa"));
    }

    #[test]
    fn hostnames_aux_fields_and_ipv6_are_told_apart() {
        let node = one("fd00::7:6379@16379,pod-0.svc,shard-id=69bc,nodename= master - 0 0 1 connected");
        assert_eq!(node.ip, "fd00::7");
        assert_eq!(node.hostname.as_deref(), Some("pod-0.svc"));
        assert_eq!(node.aux["shard-id"], "69bc");
        let node = one("10.0.0.1:6379@16379,,tls-port=0,shard-id=69bc master - 0 0 1 connected");
        assert_eq!(node.hostname, None);
        assert_eq!(node.aux["tls-port"], "0");
    }

    #[test]
    fn troubled_nodes_keep_their_state() {
        let node = one(":0@0 master,fail?,noaddr - 1 2 3 disconnected 5 [93->-bb] [77-<-cc]");
        assert_eq!(node.flags_text(), "primary,fail?,noaddr");
        assert!(node.ip.is_empty() && !node.link_connected);
        assert_eq!(node.migrating[&93], "bb");
        assert_eq!(node.importing[&77], "cc");
        assert_eq!(one(":0@0 noflags - 0 0 0 disconnected").flags_text(), "");
        assert_eq!(
            one("a:1@2 handshake,shiny - 0 0 0 connected").flags_text(),
            "handshake,shiny"
        );
    }

    #[test]
    fn the_vars_line_of_nodes_conf_is_no_node() {
        let text = format!(
            "{ID} 10.0.0.1:6379@16379 master - 0 0 1 connected\nvars currentEpoch 6 lastVoteEpoch 0\n"
        );
        assert_eq!(ClusterNodes::parse(&text).expect("parses").nodes.len(), 1);
    }

    #[test]
    fn errors_name_line_and_field() {
        let error = |rest: &str| {
            ClusterNodes::parse(&format!("{ID} {rest}"))
                .expect_err("malformed")
                .to_string()
        };
        assert!(
            error("10.0.0.1 master").starts_with("CLUSTER NODES line 1: address \"10.0.0.1\" has no port")
        );
        assert!(error("10.0.0.1:6379@x master").contains("bus port \"x\" is not a port"));
        assert!(
            error("10.0.0.1:6379@16379 master - 0 0 1 connected 99999").contains("\"99999\" is not a slot")
        );
        assert!(error("10.0.0.1:6379@16379 master - 0 0 1 connected [5-bb]").contains("has no direction"));
        assert!(error("10.0.0.1:6379@16379 master - 0").contains("there is no pong-recv"));
    }

    proptest! {
        #[test]
        fn never_panics_on_noise(text in "(?s).{0,300}") {
            let _ = ClusterNodes::parse(&text);
        }

        #[test]
        fn never_panics_on_near_misses(fields in proptest::collection::vec("[0-9a-f:@,.\\[\\]<>-]{0,12}", 0..14)) {
            let _ = ClusterNodes::parse(&fields.join(" "));
        }
    }
}
