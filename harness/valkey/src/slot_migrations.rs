//! Parser for the RESP value of `CLUSTER GETSLOTMIGRATIONS` (Valkey 9 and later).

use std::collections::BTreeMap;

use redis::Value;
use serde::{Deserialize, Serialize};

use super::parse_error::ParseError;
use super::resp;

const COMMAND: &str = "CLUSTER GETSLOTMIGRATIONS";

/// One atomic slot migration, running or finished.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotMigration {
    /// The server's fields (`name`, `operation`, `slot_ranges`, `target_node`, `source_node`,
    /// `state`, `message` …), as text.
    pub fields: BTreeMap<String, String>,
}

impl SlotMigration {
    /// Returns one field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Returns `success`, `failed`, `cancelled`, or the current stage.
    pub fn state(&self) -> &str {
        self.get("state").unwrap_or_default()
    }

    /// Returns true if the migration is neither finished nor given up.
    pub fn is_running(&self) -> bool {
        !matches!(self.state(), "success" | "failed" | "cancelled" | "canceled")
    }
}

/// Parses the answer, from RESP2 or RESP3.
///
/// # Errors
/// Names the element (instead of a line) that is not a map.
pub fn parse(value: &Value) -> Result<Vec<SlotMigration>, ParseError> {
    let list = resp::items(value)
        .ok_or_else(|| ParseError::new(COMMAND, 0, "the answer is not a list", &format!("{value:?}")))?;
    list.iter()
        .enumerate()
        .map(|(index, entry)| {
            let pairs = resp::pairs(entry).ok_or_else(|| {
                ParseError::new(
                    COMMAND,
                    index + 1,
                    "a migration is not a map",
                    &format!("{entry:?}"),
                )
            })?;
            let fields = pairs
                .into_iter()
                .filter_map(|(name, value)| Some((resp::text(name)?, resp::text(value).unwrap_or_default())))
                .collect();
            Ok(SlotMigration { fields })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_migration_is_told_from_a_running_one() {
        let entry = |state: &str| {
            let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
            Value::Map(vec![
                (text("state"), text(state)),
                (text("create_time"), Value::Int(7)),
            ])
        };
        let parsed = parse(&Value::Array(vec![entry("success"), entry("snapshotting")])).expect("parses");
        assert!(!parsed[0].is_running() && parsed[1].is_running());
        assert_eq!(parsed[0].get("create_time"), Some("7"));
        assert!(parse(&Value::Array(vec![Value::Okay])).is_err());
    }
}
