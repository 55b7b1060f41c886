//! `CLUSTER INFO`, parsed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parse_error::ParseError;

const COMMAND: &str = "CLUSTER INFO";

/// A node's view of the cluster as a whole. Field names are the server's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// `ok` or `fail`.
    pub cluster_state: String,
    /// Slots that have an owner.
    pub cluster_slots_assigned: u32,
    /// Slots with an owner that is neither failing nor suspected.
    pub cluster_slots_ok: u32,
    /// Slots with a suspected owner (`fail?`).
    pub cluster_slots_pfail: u32,
    /// Slots with a failed owner.
    pub cluster_slots_fail: u32,
    /// Nodes known, in any state, handshakes included.
    pub cluster_known_nodes: u32,
    /// Primaries that own at least one slot.
    pub cluster_size: u32,
    /// The highest epoch seen.
    pub cluster_current_epoch: u64,
    /// The config epoch of this node, or of its primary.
    pub cluster_my_epoch: u64,
    /// Everything else, as text.
    pub other: BTreeMap<String, String>,
}

impl ClusterInfo {
    /// Returns true if this node considers the cluster usable.
    pub fn is_ok(&self) -> bool {
        self.cluster_state == "ok"
    }

    /// Parses the answer's text.
    ///
    /// # Errors
    /// When a line has no colon, a number is malformed, or a field that every version sends is
    /// missing.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut fields = BTreeMap::new();
        for (index, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| ParseError::new(COMMAND, index + 1, "no colon", line))?;
            fields.insert(name.trim().to_owned(), (index + 1, value.trim().to_owned()));
        }
        let state = take(&mut fields, "cluster_state")?;
        Ok(Self {
            cluster_state: state.1,
            cluster_slots_assigned: number(&mut fields, "cluster_slots_assigned")?,
            cluster_slots_ok: number(&mut fields, "cluster_slots_ok")?,
            cluster_slots_pfail: number(&mut fields, "cluster_slots_pfail")?,
            cluster_slots_fail: number(&mut fields, "cluster_slots_fail")?,
            cluster_known_nodes: number(&mut fields, "cluster_known_nodes")?,
            cluster_size: number(&mut fields, "cluster_size")?,
            cluster_current_epoch: number(&mut fields, "cluster_current_epoch")?,
            cluster_my_epoch: number(&mut fields, "cluster_my_epoch")?,
            other: fields
                .into_iter()
                .map(|(name, (_, value))| (name, value))
                .collect(),
        })
    }
}

type Fields = BTreeMap<String, (usize, String)>;

fn take(fields: &mut Fields, name: &str) -> Result<(usize, String), ParseError> {
    fields
        .remove(name)
        .ok_or_else(|| ParseError::new(COMMAND, 0, format!("there is no {name}"), ""))
}

fn number<T: std::str::FromStr>(fields: &mut Fields, name: &str) -> Result<T, ParseError> {
    let (line, value) = take(fields, name)?;
    value
        .parse()
        .map_err(|_| ParseError::new(COMMAND, line, format!("{name} is not a number"), &value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEALTHY: &str = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:6\r\ncluster_size:3\r\ncluster_current_epoch:6\r\ncluster_my_epoch:1\r\ncluster_stats_messages_sent:10\r\n";

    #[test]
    fn a_servers_answer_is_understood() {
        let info = ClusterInfo::parse(HEALTHY).expect("a real answer parses");
        assert!(info.is_ok());
        assert_eq!(
            (
                info.cluster_known_nodes,
                info.cluster_size,
                info.cluster_current_epoch
            ),
            (6, 3, 6)
        );
        assert_eq!(info.other["cluster_stats_messages_sent"], "10");
    }

    #[test]
    fn errors_name_the_line() {
        let error = ClusterInfo::parse(&HEALTHY.replace("pfail:0", "pfail:none")).expect_err("not a number");
        assert_eq!(
            error.to_string(),
            "CLUSTER INFO line 4: cluster_slots_pfail is not a number: \"none\""
        );
        let error = ClusterInfo::parse("cluster_state:ok\nnonsense").expect_err("no colon");
        assert_eq!(error.to_string(), "CLUSTER INFO line 2: no colon: \"nonsense\"");
    }

    proptest! {
        #[test]
        fn never_panics(text in "(?s).{0,400}") {
            let _ = ClusterInfo::parse(&text);
        }
    }
}
