//! A key in every one of the 16384 slots. A single key sits in one shard of several, and most often not in the one that
//! was lost.

use std::collections::BTreeMap;

use redis::Value;

use super::context::Context;
use super::error::TrialError;
use crate::checks::Violation;
use crate::valkey::{ClusterObservation, ledger, slots};

/// How many keys go into one pipeline: a few hundred kilobytes at most, and few round trips.
const BATCH: usize = 2048;

/// How many wrong keys a failure names.
const NAMED: usize = 5;

impl Context {
    /// Writes a canary into every slot, through the pod that owns it. Every write is acknowledged, or this fails.
    pub async fn write_canaries(&mut self) -> Result<(), TrialError> {
        let step = self.steps.begin("write a key into every slot");
        let written = self.each_canary(Canary::write).await;
        self.steps.end(step, written.is_ok());
        conclude("every canary to be acknowledged", &written?)
    }

    /// Reads every canary back through the pod that owns its slot now.
    pub async fn verify_canaries(&mut self) -> Result<(), TrialError> {
        let step = self.steps.begin("read the key of every slot");
        let read = self.each_canary(Canary::read).await;
        self.steps.end(step, read.is_ok());
        conclude("every canary to be there unchanged", &read?)?;
        self.record_kept([ledger::report::CHECK]);
        Ok(())
    }

    /// Sends one command per slot to its owner, and returns the slots whose answer was not the right one.
    async fn each_canary(&self, command: fn(&Canary) -> redis::Cmd) -> Result<Vec<Wrong>, TrialError> {
        let seen = self.observe().await?;
        let mut wrong = Vec::new();
        let owners = owners(&seen);
        wrong.extend(
            slots::all()
                .filter(|slot| !owners.contains_key(slot))
                .map(Wrong::unowned),
        );
        let mut by_pod: BTreeMap<&str, Vec<Canary>> = BTreeMap::new();
        for (slot, pod) in &owners {
            by_pod.entry(pod).or_default().push(Canary { slot: *slot });
        }
        for (pod, canaries) in by_pod {
            let mut connection = self.connect(pod).await?;
            for batch in canaries.chunks(BATCH) {
                let mut pipeline = redis::pipe();
                for canary in batch {
                    pipeline.add_command(command(canary));
                }
                let answers = connection.send_packed_commands(&pipeline, 0, batch.len()).await;
                let answers = answers.map_err(|error| TrialError::Answer {
                    pod: pod.to_owned(),
                    source: error,
                })?;
                wrong.extend(
                    batch
                        .iter()
                        .zip(answers)
                        .filter_map(|(canary, answer)| canary.judge(pod, &answer)),
                );
            }
        }
        Ok(wrong)
    }
}

/// The key and the value of one slot.
#[derive(Debug, Clone, Copy)]
struct Canary {
    slot: u16,
}

impl Canary {
    fn key(self) -> String {
        slots::key_for_slot(self.slot)
    }

    fn value(self) -> String {
        format!("canary of slot {}", self.slot)
    }

    fn write(&self) -> redis::Cmd {
        redis::Cmd::set(self.key(), self.value())
    }

    fn read(&self) -> redis::Cmd {
        redis::Cmd::get(self.key())
    }

    /// `OK` to a write and the value to a read are right, and nothing else is.
    fn judge(self, pod: &str, answer: &Value) -> Option<Wrong> {
        let right = match answer {
            Value::Okay => true,
            Value::BulkString(bytes) => bytes == self.value().as_bytes(),
            _ => false,
        };
        let answer = match answer {
            Value::Nil => "nothing".to_owned(),
            Value::ServerError(error) => format!("{error:?}"),
            other => format!("{other:?}"),
        };
        (!right).then(|| Wrong {
            slot: self.slot,
            pod: pod.to_owned(),
            answer,
        })
    }
}

/// A slot whose canary did not get the right answer.
#[derive(Debug)]
struct Wrong {
    slot: u16,
    pod: String,
    answer: String,
}

impl Wrong {
    fn unowned(slot: u16) -> Self {
        Self {
            slot,
            pod: "nobody".to_owned(),
            answer: "the slot has no owner".to_owned(),
        }
    }
}

fn conclude(expected: &str, wrong: &[Wrong]) -> Result<(), TrialError> {
    if wrong.is_empty() {
        return Ok(());
    }
    let seen = format!("{} of {} are not", wrong.len(), slots::all().len());
    let mut violation = Violation::new("data", "a key in every slot", expected, seen);
    for wrong in wrong.iter().take(NAMED) {
        violation =
            violation.with_evidence(format!("slot {} on {}: {}", wrong.slot, wrong.pod, wrong.answer));
    }
    Err(TrialError::Unhealthy {
        waited: "now".to_owned(),
        violations: vec![violation],
    })
}

/// The pod that owns each slot, as the owners themselves say; a standalone server owns them all.
fn owners(seen: &ClusterObservation) -> BTreeMap<u16, &str> {
    let mut owners = BTreeMap::new();
    for (pod, view) in seen.answered() {
        match &view.nodes {
            None => owners.extend(slots::all().map(|slot| (slot, pod))),
            Some(nodes) => {
                let own = nodes.myself().into_iter().flat_map(|myself| myself.slots.iter());
                owners.extend(own.map(|slot| (slot, pod)));
            }
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_acknowledgement_or_the_very_value_is_right() {
        let canary = Canary { slot: 7 };
        assert!(canary.judge("vk-0", &Value::Okay).is_none());
        assert!(
            canary
                .judge("vk-0", &Value::BulkString(b"canary of slot 7".to_vec()))
                .is_none()
        );
        assert!(
            canary
                .judge("vk-0", &Value::BulkString(b"canary of slot 8".to_vec()))
                .is_some()
        );
        assert_eq!(canary.judge("vk-0", &Value::Nil).unwrap().answer, "nothing");
    }

    #[test]
    fn a_failure_counts_all_and_names_a_few() {
        let wrong: Vec<Wrong> = (0..9).map(Wrong::unowned).collect();
        let error = conclude("x", &wrong).unwrap_err().to_string();
        assert!(error.contains("9 of 16384"), "{error}");
        assert!(
            error.contains("slot 4 on nobody") && !error.contains("slot 5 on"),
            "{error}"
        );
    }
}
