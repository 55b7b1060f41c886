//! A canary in every slot: one key for each of the 16384, written and read back in one pipelined pass per node.

use std::collections::BTreeMap;
use std::fmt;

use redis::{Cmd, Value};

use super::cluster_client::RoutedClient;
use super::resp;
use super::routed::{CommandError, Resend, Routed};
use super::slots::{self, SlotRange, SlotSet};

/// Slots whose canary is not as it should be, grouped by what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct CanaryError {
    /// By problem, the slots that have it.
    pub problems: BTreeMap<String, SlotSet>,
}

impl fmt::Display for CanaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("canary keys failed:")?;
        for (problem, slots) in &self.problems {
            write!(f, " {} slots ({slots}): {problem};", slots.len())?;
        }
        Ok(())
    }
}

/// The canary's key in `slot`.
fn key(label: &str, slot: u16) -> String {
    format!("canary:{label}:{}", slots::key_for_slot(slot))
}

/// What the canary holds: label and slot, so that a value that strayed to another slot is noticed.
fn value(label: &str, slot: u16) -> String {
    format!("{label}/{slot}")
}

/// Writes the canaries called `label`.
///
/// # Errors
/// Which slots refused, and why.
pub async fn set(client: &RoutedClient, label: &str) -> Result<(), CanaryError> {
    let commands = each(|slot| {
        redis::cmd("SET")
            .arg(key(label, slot))
            .arg(value(label, slot))
            .to_owned()
    });
    problems(
        &client.execute_all(commands, Resend::Idempotent).await,
        |_, answer| match answer {
            Value::Okay => None,
            other => Some(format!("SET answered {other:?}")),
        },
    )
}

/// Reads the canaries called `label` back.
///
/// # Errors
/// Which slots lost theirs or hold something else.
pub async fn verify(client: &RoutedClient, label: &str) -> Result<(), CanaryError> {
    let commands = each(|slot| redis::cmd("GET").arg(key(label, slot)).to_owned());
    problems(
        &client.execute_all(commands, Resend::Idempotent).await,
        |slot, answer| match resp::text(answer) {
            None => Some("the key is gone".to_owned()),
            Some(seen) if seen == value(label, slot) => None,
            Some(_) => Some("the value is another one".to_owned()),
        },
    )
}

/// Writes the canaries called `label` and reads them back.
///
/// # Errors
/// As [`set`] and [`verify`].
pub async fn set_and_get(client: &RoutedClient, label: &str) -> Result<(), CanaryError> {
    set(client, label).await?;
    verify(client, label).await
}

fn each(command: impl Fn(u16) -> Cmd) -> Vec<Routed> {
    slots::all()
        .map(|slot| Routed {
            slot,
            command: command(slot),
        })
        .collect()
}

fn problems(
    answers: &[Result<Value, CommandError>],
    problem: impl Fn(u16, &Value) -> Option<String>,
) -> Result<(), CanaryError> {
    let mut problems: BTreeMap<String, SlotSet> = BTreeMap::new();
    for (slot, answer) in slots::all().zip(answers) {
        let found = match answer {
            Ok(value) => problem(slot, value),
            Err(error) => Some(error.to_string()),
        };
        if let Some(text) = found {
            problems.entry(text).or_default().insert(SlotRange {
                start: slot,
                end: slot,
            });
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(CanaryError { problems })
    }
}
