//! Parser for `INFO`: types for the sections that the checks read, text for the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parse_error::ParseError;

const COMMAND: &str = "INFO";

/// The fields of an `INFO` answer from all sections. Names are unique across sections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    fields: BTreeMap<String, String>,
}

impl Info {
    /// Parses the answer's text. Section headings and blank lines are skipped.
    ///
    /// # Errors
    /// When a line is neither a heading nor `name:value`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut fields = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| ParseError::new(COMMAND, index + 1, "no colon", line))?;
            fields.insert(name.to_owned(), value.to_owned());
        }
        Ok(Self { fields })
    }

    /// Returns one field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Returns one field as a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name) == Some("1")
    }
}

/// The role of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The server takes writes.
    Primary,
    /// The server follows a primary.
    Replica,
}

/// `INFO replication`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replication {
    /// The node's role.
    pub role: Role,
    /// For a replica: the address of its primary.
    pub primary_host: Option<String>,
    /// For a replica: true if the link to its primary is up.
    pub link_up: Option<bool>,
    /// For a replica: true if a full synchronisation is under way.
    pub sync_in_progress: bool,
    /// For a replica: seconds since the link went down.
    pub link_down_since_seconds: Option<i64>,
    /// The end of this node's replication stream.
    pub offset: i64,
    /// For a replica: the applied offset of its primary's stream.
    pub replica_offset: Option<i64>,
    /// The ID of the replication history.
    pub replid: String,
    /// Number of attached replicas.
    pub connected_replicas: u32,
    /// The `slaveN:` lines.
    pub replicas: Vec<AttachedReplica>,
}

/// A `slaveN:` line of `INFO replication`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedReplica {
    /// The address that the replica connects from.
    pub ip: String,
    /// Its announced port.
    pub port: u16,
    /// `online` once the replica receives the stream.
    pub state: String,
    /// The last offset that the replica acknowledged.
    pub offset: i64,
    /// Seconds since its last acknowledgement.
    pub lag: i64,
}

impl Replication {
    /// Reads the section's fields.
    ///
    /// # Errors
    /// Names the field that is missing or malformed.
    pub fn from_info(info: &Info) -> Result<Self, ParseError> {
        let role = match info.get("role") {
            Some("master" | "primary") => Role::Primary,
            Some("slave" | "replica") => Role::Replica,
            other => return Err(missing("role", other)),
        };
        let replicas = (0..)
            .map_while(|index| info.get(&format!("slave{index}")))
            .map(|line| attached_replica(line).ok_or_else(|| missing("slaveN", Some(line))))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            role,
            primary_host: info.get("master_host").map(str::to_owned),
            link_up: info.get("master_link_status").map(|status| status == "up"),
            sync_in_progress: info.flag("master_sync_in_progress"),
            link_down_since_seconds: info.number("master_link_down_since_seconds"),
            offset: info
                .number("master_repl_offset")
                .ok_or_else(|| missing("master_repl_offset", info.get("master_repl_offset")))?,
            replica_offset: info.number("slave_repl_offset"),
            replid: info.get("master_replid").unwrap_or_default().to_owned(),
            connected_replicas: info.number("connected_slaves").unwrap_or(0),
            replicas,
        })
    }
}

fn attached_replica(line: &str) -> Option<AttachedReplica> {
    let fields: BTreeMap<&str, &str> = line.split(',').filter_map(|pair| pair.split_once('=')).collect();
    Some(AttachedReplica {
        ip: (*fields.get("ip")?).to_owned(),
        port: fields.get("port")?.parse().ok()?,
        state: (*fields.get("state")?).to_owned(),
        offset: fields.get("offset")?.parse().ok()?,
        lag: fields.get("lag")?.parse().ok()?,
    })
}

/// `INFO persistence`, as far as the checks read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// True if a dataset is being loaded; most commands are refused during that time.
    pub loading: bool,
    /// True if the append-only file is on.
    pub aof_enabled: bool,
    /// True if the last write to the append-only file succeeded.
    pub aof_last_write_ok: bool,
    /// True if the last background rewrite of the append-only file succeeded.
    pub aof_last_rewrite_ok: bool,
    /// True if the last background save succeeded.
    pub rdb_last_bgsave_ok: bool,
}

impl Persistence {
    /// Reads the section's fields.
    ///
    /// # Errors
    /// When the section is missing.
    pub fn from_info(info: &Info) -> Result<Self, ParseError> {
        // A server without AOF does not print the aof_* details. One that never wrote says "ok".
        let ok = |name: &str| info.get(name).is_none_or(|status| status == "ok");
        if info.get("loading").is_none() {
            return Err(missing("loading", None));
        }
        Ok(Self {
            loading: info.flag("loading"),
            aof_enabled: info.flag("aof_enabled"),
            aof_last_write_ok: ok("aof_last_write_status"),
            aof_last_rewrite_ok: ok("aof_last_bgrewrite_status"),
            rdb_last_bgsave_ok: ok("rdb_last_bgsave_status"),
        })
    }
}

/// The memory limit in `INFO memory` and `INFO stats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes in use.
    pub used: u64,
    /// `maxmemory` in bytes; 0 means none.
    pub limit: u64,
    /// `maxmemory-policy`.
    pub policy: String,
    /// Keys evicted since the server's start.
    pub evicted_keys: u64,
}

impl Memory {
    /// Reads the sections' fields; `None` if they are missing.
    pub fn from_info(info: &Info) -> Option<Self> {
        Some(Self {
            used: info.number("used_memory")?,
            limit: info.number("maxmemory")?,
            policy: info.get("maxmemory_policy")?.to_owned(),
            evicted_keys: info.number("evicted_keys").unwrap_or(0),
        })
    }

    /// Returns true if the server refuses writes: it is at its limit and may not evict keys.
    pub fn is_full(&self) -> bool {
        self.limit > 0 && self.used >= self.limit && self.policy == "noeviction"
    }
}

/// `INFO server`, as far as reports and oracles read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// The server's own version: `valkey_version`, or `redis_version` if the server has no other
    /// field.
    pub version: String,
    /// `valkey`, or `redis`.
    pub product: String,
    /// A random ID, new at every start: the proof of a restart.
    pub run_id: String,
    /// The process id inside the container.
    pub process_id: u32,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Path of the server's executable.
    pub executable: String,
    /// Path of the configuration file; empty if there is none.
    pub config_file: String,
}

impl Server {
    /// Reads the section's fields.
    ///
    /// # Errors
    /// Names the field that is missing or malformed.
    pub fn from_info(info: &Info) -> Result<Self, ParseError> {
        let text = |name: &str| info.get(name).unwrap_or_default().to_owned();
        let product = if info.get("valkey_version").is_some() {
            "valkey"
        } else {
            "redis"
        };
        let version = info
            .get("valkey_version")
            .or_else(|| info.get("redis_version"))
            .ok_or_else(|| missing("valkey_version", None))?;
        Ok(Self {
            version: version.to_owned(),
            product: product.to_owned(),
            run_id: text("run_id"),
            process_id: info
                .number("process_id")
                .ok_or_else(|| missing("process_id", info.get("process_id")))?,
            uptime_seconds: info.number("uptime_in_seconds").unwrap_or(0),
            executable: text("executable"),
            config_file: text("config_file"),
        })
    }
}

fn missing(field: &str, seen: Option<&str>) -> ParseError {
    ParseError::new(
        COMMAND,
        0,
        format!("field {field} is missing or malformed"),
        seen.unwrap_or(""),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PRIMARY: &str = "# Replication\r\nrole:master\r\nconnected_slaves:1\r\nslave0:ip=10.0.0.6,port=6379,state=online,offset=14,lag=0,type=replica\r\nmaster_replid:5455a092\r\nmaster_repl_offset:14\r\n";
    const REPLICA: &str = "# Replication\r\nrole:slave\r\nmaster_host:10.0.0.2\r\nmaster_link_status:down\r\nmaster_sync_in_progress:1\r\nmaster_link_down_since_seconds:7\r\nslave_repl_offset:14\r\nconnected_slaves:0\r\nmaster_repl_offset:20\r\n";

    #[test]
    fn a_primary_lists_its_replicas() {
        let replication = Replication::from_info(&Info::parse(PRIMARY).expect("parses")).expect("complete");
        assert_eq!(replication.role, Role::Primary);
        assert_eq!(replication.link_up, None);
        assert_eq!(replication.replicas[0].ip, "10.0.0.6");
        assert_eq!((replication.offset, replication.replicas[0].offset), (14, 14));
    }

    #[test]
    fn a_replica_tells_about_its_link() {
        let replication = Replication::from_info(&Info::parse(REPLICA).expect("parses")).expect("complete");
        assert_eq!(replication.role, Role::Replica);
        assert_eq!(
            (replication.link_up, replication.sync_in_progress),
            (Some(false), true)
        );
        assert_eq!(
            (replication.replica_offset, replication.link_down_since_seconds),
            (Some(14), Some(7))
        );
    }

    #[test]
    fn persistence_and_server_are_read() {
        let info = Info::parse("loading:0\naof_enabled:1\naof_last_write_status:err\nrdb_last_bgsave_status:ok\nredis_version:7.2.4\nvalkey_version:9.1.2\nrun_id:ab\nprocess_id:1\nuptime_in_seconds:6\n").expect("parses");
        let persistence = Persistence::from_info(&info).expect("complete");
        assert!(persistence.aof_enabled && !persistence.aof_last_write_ok && persistence.rdb_last_bgsave_ok);
        let server = Server::from_info(&info).expect("complete");
        assert_eq!(
            (server.version.as_str(), server.product.as_str()),
            ("9.1.2", "valkey")
        );
    }

    #[test]
    fn errors_name_line_or_field() {
        assert_eq!(
            Info::parse("a:1\nnonsense").expect_err("malformed").to_string(),
            "INFO line 2: no colon: \"nonsense\""
        );
        let info = Info::parse("role:king\n").expect("parses");
        assert!(
            Replication::from_info(&info)
                .expect_err("no such role")
                .to_string()
                .contains("field role")
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "(?s)(role:(master|slave)\n)?(slave0:.{0,40}\n)?.{0,200}") {
            if let Ok(info) = Info::parse(&text) {
                let _ = Replication::from_info(&info);
                let _ = Persistence::from_info(&info);
                let _ = Server::from_info(&info);
            }
        }
    }
}
