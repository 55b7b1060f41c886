//! Parser for the RESP value of `CLUSTER SHARDS`.

use redis::Value;
use serde::{Deserialize, Serialize};

use super::parse_error::ParseError;
use super::resp;
use super::slots::{SlotRange, SlotSet};

const COMMAND: &str = "CLUSTER SHARDS";

/// One shard from the point of view of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// The shard's ID, if the server reports it (since 8.1).
    pub id: Option<String>,
    /// Its slots.
    pub slots: SlotSet,
    /// Its members.
    pub nodes: Vec<ShardNode>,
}

/// A member of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardNode {
    /// Node id.
    pub id: String,
    /// Announced address.
    pub ip: String,
    /// Client port.
    pub port: u16,
    /// `master` or `replica`.
    pub role: String,
    /// The offset of its replication stream.
    pub replication_offset: i64,
    /// `online`, `loading` or `failed`.
    pub health: String,
}

/// Parses the answer, from RESP2 or RESP3.
///
/// # Errors
/// Names the element (instead of a line) that is not as documented.
pub fn parse(value: &Value) -> Result<Vec<Shard>, ParseError> {
    let Some(shards) = resp::items(value) else {
        return Err(problem(0, "the answer is not a list", value));
    };
    shards
        .iter()
        .enumerate()
        .map(|(index, shard)| parse_shard(shard).map_err(|text| problem(index + 1, &text, shard)))
        .collect()
}

fn problem(position: usize, text: &str, value: &Value) -> ParseError {
    ParseError::new(COMMAND, position, text, &format!("{value:?}"))
}

fn parse_shard(value: &Value) -> Result<Shard, String> {
    let mut shard = Shard::default();
    for (name, value) in resp::pairs(value).ok_or("a shard is not a map")? {
        match resp::text(name).unwrap_or_default().as_str() {
            "slots" => shard.slots = parse_slots(value)?,
            "nodes" => {
                shard.nodes = resp::items(value)
                    .ok_or("nodes is not a list")?
                    .iter()
                    .map(parse_node)
                    .collect::<Result<_, _>>()?;
            }
            "id" => shard.id = resp::text(value),
            _ => {}
        }
    }
    Ok(shard)
}

fn parse_slots(value: &Value) -> Result<SlotSet, String> {
    let bounds = resp::items(value)
        .ok_or("slots is not a list")?
        .iter()
        .map(|bound| {
            resp::integer(bound)
                .and_then(|slot| u16::try_from(slot).ok())
                .filter(|&slot| slot < super::slots::SLOT_COUNT)
                .ok_or_else(|| format!("{bound:?} is not a slot"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    bounds
        .chunks(2)
        .map(|pair| match *pair {
            [start, end] if start <= end => Ok(SlotRange { start, end }),
            _ => Err(format!("slot bounds {pair:?} are not a range")),
        })
        .collect()
}

fn parse_node(value: &Value) -> Result<ShardNode, String> {
    let mut node = ShardNode::default();
    for (name, value) in resp::pairs(value).ok_or("a node is not a map")? {
        let text = || resp::text(value).unwrap_or_default();
        match resp::text(name).unwrap_or_default().as_str() {
            "id" => node.id = text(),
            "ip" => node.ip = text(),
            "port" => {
                let port = resp::integer(value).and_then(|port| u16::try_from(port).ok());
                node.port = port.ok_or_else(|| format!("port {value:?} is not a port"))?;
            }
            "role" => node.role = text(),
            "replication-offset" => node.replication_offset = resp::integer(value).unwrap_or_default(),
            "health" => node.health = text(),
            _ => {}
        }
    }
    if node.id.is_empty() {
        Err("a node has no id".to_owned())
    } else {
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn map(entries: Vec<(&str, Value)>, resp3: bool) -> Value {
        if resp3 {
            return Value::Map(
                entries
                    .into_iter()
                    .map(|(name, value)| (bulk(name), value))
                    .collect(),
            );
        }
        Value::Array(
            entries
                .into_iter()
                .flat_map(|(name, value)| [bulk(name), value])
                .collect(),
        )
    }

    fn answer(resp3: bool, end: i64) -> Value {
        let node = map(
            vec![
                ("id", bulk("f05f")),
                ("port", Value::Int(6379)),
                ("ip", bulk("10.0.0.1")),
                ("role", bulk("master")),
                ("replication-offset", Value::Int(14)),
                ("health", bulk("online")),
            ],
            resp3,
        );
        let slots = Value::Array(vec![Value::Int(0), Value::Int(end), Value::Int(9), Value::Int(9)]);
        let shard = map(
            vec![
                ("slots", slots),
                ("nodes", Value::Array(vec![node])),
                ("id", bulk("69bc")),
            ],
            resp3,
        );
        Value::Array(vec![shard])
    }

    #[test]
    fn both_protocols_give_the_same_shards() {
        let shards = parse(&answer(false, 5)).expect("parses");
        assert_eq!(shards, parse(&answer(true, 5)).expect("parses"));
        assert_eq!(shards[0].slots.to_string(), "0-5,9");
        assert_eq!(shards[0].id.as_deref(), Some("69bc"));
        assert_eq!(
            (shards[0].nodes[0].port, shards[0].nodes[0].replication_offset),
            (6379, 14)
        );
    }

    #[test]
    fn errors_name_the_element() {
        let error = parse(&answer(false, 16384)).expect_err("no such slot");
        assert!(
            error
                .to_string()
                .starts_with("CLUSTER SHARDS line 1: int(16384) is not a slot"),
            "{error}"
        );
        assert!(
            parse(&Value::Okay)
                .expect_err("no list")
                .to_string()
                .contains("not a list")
        );
    }

    fn arbitrary_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Int),
            prop_oneof![Just("slots"), Just("nodes"), Just("id"), Just("port"), Just("x")].prop_map(bulk),
            Just(Value::Nil),
        ];
        leaf.prop_recursive(5, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                proptest::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn never_panics(value in arbitrary_value()) {
            let _ = parse(&value);
        }
    }
}
