//! Reading every key back in one pass per node, and looking for keys that should not be there.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::wire::{Reply, Wire, encode};
use super::classify::{Class, Lifetime, classify};
use super::command::{Scratch, push_read};
use super::job::{Batch, Fate, Job, fate_of};
use super::journal::JournalError;
use super::report::Verification;
use super::value::{Found, identify};
use super::work::{self, Limits};
use super::{Ledger, Target};

/// How to verify.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Whether to walk all keys of all owners for some that the ledger never wrote.
    pub look_for_phantoms: bool,
    /// How long keys are tried that nobody serves.
    pub patience: Duration,
    /// How long a node may take to answer a batch.
    pub answer_deadline: Duration,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            look_for_phantoms: true,
            patience: Duration::from_secs(60),
            answer_deadline: Duration::from_secs(10),
        }
    }
}

pub(super) async fn verify(ledger: &Ledger, target: &Target, options: &VerifyOptions) -> Verification {
    let start = Instant::now();
    let newest = ledger.journal().generation();
    let job = Verifying {
        ledger,
        newest,
        verification: Mutex::default(),
    };
    let limits = Limits {
        patience: options.patience,
        answer: options.answer_deadline,
    };
    work::run(&ledger.spec, target, &job, limits)
        .await
        .expect("verifying writes no journal");
    let mut verification = job.verification.into_inner().expect("no holder panics");
    if options.look_for_phantoms {
        look_for_phantoms(ledger, target, options, &mut verification).await;
    }
    verification.finish(ledger.journal().owners());
    verification.elapsed = start.elapsed();
    verification
}

struct Verifying<'a> {
    ledger: &'a Ledger,
    newest: u8,
    verification: Mutex<Verification>,
}

/// What was read of a key so far.
#[derive(Default)]
struct State {
    found: Option<Found>,
    expires_ms: Option<i64>,
    error: Option<Vec<u8>>,
}

impl Job for Verifying<'_> {
    type State = State;

    fn encode(&self, buffer: &mut Vec<u8>, scratch: &mut Scratch, index: u64) -> usize {
        push_read(buffer, scratch, &self.ledger.spec, index)
    }

    fn begin(&self, _indexes: &[u64], _states: &mut [State]) -> Result<(), JournalError> {
        Ok(())
    }

    fn reply(&self, state: &mut State, index: u64, number: usize, reply: &Reply<'_>) {
        let spec = &self.ledger.spec;
        match (number, reply) {
            // Another type than was written: content that nobody wrote.
            (0, Reply::Error(error)) if error.starts_with(b"WRONGTYPE") => state.found = Some(Found::Foreign),
            (_, Reply::Error(error)) => state.error = state.error.take().or_else(|| Some(error.to_vec())),
            (0, reply) => {
                state.found = Some(identify(spec, index, &spec.shape(index), reply, self.newest));
            }
            (_, Reply::Integer(expires_ms)) => state.expires_ms = Some(*expires_ms),
            (_, _) => {}
        }
    }

    fn settle(&self, batch: Batch<'_, State>) -> Result<Vec<Fate>, JournalError> {
        let now_ms = Timestamp::now().as_millisecond();
        let journal = self.ledger.journal();
        let mut verification = self.verification.lock().expect("no holder panics");
        let mut fates = Vec::with_capacity(batch.indexes.len());
        for (position, (&index, state)) in batch.indexes.iter().zip(&batch.states).enumerate() {
            let slot = self.ledger.spec.slot(index);
            let found = state
                .found
                .filter(|_| position < batch.answered && state.error.is_none());
            fates.push(match (found, &state.error) {
                (Some(found), _) => {
                    let record = journal.record(index);
                    let lifetime = Lifetime {
                        expires_ms: self.ledger.spec.shape(index).expires_ms,
                        seen_ms: state.expires_ms,
                        now_ms,
                    };
                    let class = classify(record, found, lifetime);
                    let held = match found {
                        Found::Generation(generation) => generation,
                        Found::Absent | Found::Foreign => 0,
                    };
                    verification.count(&self.ledger.spec, index, class, record, held);
                    Fate::Done
                }
                (None, Some(error)) if position < batch.answered => fate_of(error).unwrap_or_else(|code| {
                    verification.unverified(slot, &format!("{}: {code}", batch.pod));
                    Fate::Done
                }),
                // Reading twice does no harm.
                _ => Fate::Again(batch.cause.clone().unwrap_or_default()),
            });
        }
        Ok(fates)
    }

    fn give_up(&self, index: u64, cause: &str) -> Result<(), JournalError> {
        let slot = self.ledger.spec.slot(index);
        self.verification
            .lock()
            .expect("no holder panics")
            .unverified(slot, cause);
        Ok(())
    }
}

/// Walks every owner's keyspace. A key named like one of the ledger's that was never written is a phantom; keys that
/// were refused have been looked at by name already.
async fn look_for_phantoms(
    ledger: &Ledger,
    target: &Target,
    options: &VerifyOptions,
    verification: &mut Verification,
) {
    let owners: Vec<String> = target
        .router
        .slot_map()
        .await
        .owners()
        .into_keys()
        .map(str::to_owned)
        .collect();
    for pod in owners {
        let walk = async {
            let open = async {
                let stream = target.dialer.dial(&pod).await?;
                Wire::open(stream, &target.passwords).await
            };
            // A server that is stopped takes connections, and says nothing on them.
            let mut wire = tokio::time::timeout(options.answer_deadline, open).await??;
            let mut cursor = b"0".to_vec();
            loop {
                let step = scan(ledger, &mut wire, &cursor, verification);
                cursor = tokio::time::timeout(options.answer_deadline, step).await??;
                if cursor == b"0" {
                    return Ok::<(), std::io::Error>(());
                }
            }
        };
        if let Err(error) = walk.await {
            verification.unscanned.insert(pod.clone(), error.to_string());
        }
    }
}

async fn scan(
    ledger: &Ledger,
    wire: &mut Wire,
    cursor: &[u8],
    verification: &mut Verification,
) -> std::io::Result<Vec<u8>> {
    /// Keys per step: a millisecond of a server's time.
    const STEP: &[u8] = b"2000";
    let mut command = Vec::new();
    let pattern = format!("{{*}}{}:*", ledger.spec.label);
    encode(
        &mut command,
        &[b"SCAN", cursor, b"MATCH", pattern.as_bytes(), b"COUNT", STEP],
    );
    wire.send(&command).await?;
    wire.reply(|reply| {
        let Reply::Array(parts) = &reply else {
            return Err(std::io::Error::other(format!("SCAN answered {reply:?}")));
        };
        let [next, Reply::Array(names)] = parts.as_slice() else {
            return Err(std::io::Error::other("SCAN answered something else"));
        };
        for name in names.iter().filter_map(Reply::bytes) {
            let ours = ledger
                .spec
                .index_of(name)
                .filter(|&index| index < ledger.spec.keys);
            // Keys of the ledger's own numbers have been classified by name.
            if ours.is_none() {
                verification.phantom_name(name);
            }
        }
        next.bytes()
            .map(<[u8]>::to_vec)
            .ok_or_else(|| std::io::Error::other("SCAN gave no cursor"))
    })
    .await?
}

impl Verification {
    fn unverified(&mut self, slot: u16, cause: &str) {
        *self.counts.entry(Class::Unverified).or_default() += 1;
        self.unverified.entry(cause.to_owned()).or_default().insert(slot);
    }
}
