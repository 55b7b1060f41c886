//! Writes a generation of every key, and records each outcome.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::wire::{Reply, encode};
use super::command::{Scratch, push_write};
use super::job::{Batch, Fate, Job, fate_of};
use super::ledger_file::RecordFileError;
use super::report::WriteReport;
use super::spec::LedgerSpec;
use super::work::{self, Limits};
use super::{Ledger, LedgerServers};

/// Options of a write.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Number of replicas that must confirm each batch (`WAIT`); 0 for no confirmation.
    pub confirm_replicas: u32,
    /// Time that a batch waits for the confirmation of its replicas.
    pub confirm_timeout: Duration,
    /// Time to retry keys that nobody accepts. Longer than a failover with the chart's node
    /// timeout.
    pub within: Duration,
    /// Time limit for a node's answer to a batch. Later answers leave an unknown outcome.
    pub answer_deadline: Duration,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            confirm_replicas: 0,
            confirm_timeout: Duration::from_secs(2),
            within: Duration::from_secs(60),
            answer_deadline: Duration::from_secs(10),
        }
    }
}

pub(super) async fn write(
    ledger: &Ledger,
    target: &LedgerServers,
    options: &WriteOptions,
) -> Result<WriteReport, RecordFileError> {
    let start = Instant::now();
    target.router.refresh().await;
    let map = target.router.slot_map().await;
    let owners = map
        .owners()
        .into_iter()
        .map(|(pod, slots)| (pod.to_owned(), slots))
        .collect();
    let generation = {
        let mut journal = ledger.journal();
        journal.set_owners(owners)?;
        journal.next_generation()?
    };
    let job = Writing {
        ledger,
        spec: &ledger.spec,
        generation,
        options,
        report: Mutex::default(),
    };
    let limits = Limits {
        within: options.within,
        answer: options.answer_deadline + options.confirm_timeout * options.confirm_replicas.min(1),
    };
    work::run(&ledger.spec, target, &job, limits).await?;
    let mut report = job.report.into_inner().expect("no holder panics");
    report.generation = generation;
    report.elapsed = start.elapsed();
    Ok(report)
}

struct Writing<'a> {
    ledger: &'a Ledger,
    spec: &'a LedgerSpec,
    generation: u8,
    options: &'a WriteOptions,
    report: Mutex<WriteReport>,
}

/// The state of one key's write.
#[derive(Default)]
struct KeyWrite {
    /// The first error among the key's replies.
    error: Option<Vec<u8>>,
    /// The newest possible generation before this write. It is restored if the write was not
    /// executed.
    before: u8,
}

impl Job for Writing<'_> {
    type State = KeyWrite;

    fn encode(&self, buffer: &mut Vec<u8>, scratch: &mut Scratch, index: u64) -> usize {
        push_write(buffer, scratch, self.spec, index, self.generation)
    }

    fn trailer(&self, buffer: &mut Vec<u8>) -> bool {
        if self.options.confirm_replicas == 0 {
            return false;
        }
        let replicas = self.options.confirm_replicas.to_string();
        let timeout = self.options.confirm_timeout.as_millis().to_string();
        encode(buffer, &[b"WAIT", replicas.as_bytes(), timeout.as_bytes()]);
        true
    }

    fn begin(&self, indexes: &[u64], states: &mut [KeyWrite]) -> Result<(), RecordFileError> {
        self.ledger.journal().update(indexes, |position, record| {
            states[position].before = record.attempted;
            record.attempted = self.generation;
        })
    }

    fn reply(&self, state: &mut KeyWrite, _index: u64, _number: usize, reply: &Reply<'_>) {
        let error = match reply {
            Reply::Error(error) => Some(*error),
            // A command may fail inside a transaction that succeeds.
            Reply::Array(items) => items.iter().find_map(|item| match item {
                Reply::Error(error) => Some(*error),
                _ => None,
            }),
            _ => None,
        };
        if let (None, Some(error)) = (&state.error, error) {
            state.error = Some(error.to_vec());
        }
    }

    fn settle(&self, batch: Batch<'_, KeyWrite>) -> Result<Vec<Fate>, RecordFileError> {
        let confirmed = batch
            .trailer
            .is_some_and(|replicas| replicas >= i64::from(self.options.confirm_replicas));
        let mut fates = Vec::with_capacity(batch.indexes.len());
        let mut report = self.report.lock().expect("no holder panics");
        self.ledger.journal().update(batch.indexes, |position, record| {
            let fate = match (position < batch.answered, &batch.states[position].error) {
                (true, None) => {
                    record.acknowledged = self.generation;
                    report.acknowledged += 1;
                    if confirmed {
                        record.confirmed = self.generation;
                        report.confirmed += 1;
                    }
                    Fate::Done
                }
                (true, Some(error)) => {
                    record.attempted = batch.states[position].before;
                    fate_of(error).unwrap_or_else(|code| {
                        record.refused = self.generation;
                        *report.refused.entry(code).or_default() += 1;
                        Fate::Done
                    })
                }
                (false, _) => {
                    let cause = batch.cause.clone().unwrap_or_default();
                    if batch.sent {
                        *report
                            .unknown
                            .entry(format!("{}: {cause}", batch.pod))
                            .or_default() += 1;
                        Fate::Done
                    } else {
                        record.attempted = batch.states[position].before;
                        Fate::Again(cause)
                    }
                }
            };
            fates.push(fate);
        })?;
        Ok(fates)
    }

    fn give_up(&self, index: u64, cause: &str) -> Result<(), RecordFileError> {
        let code = format!("not executed, last {cause}");
        *self
            .report
            .lock()
            .expect("no holder panics")
            .refused
            .entry(code)
            .or_default() += 1;
        self.ledger
            .journal()
            .update(&[index], |_, record| record.refused = self.generation)
    }
}
