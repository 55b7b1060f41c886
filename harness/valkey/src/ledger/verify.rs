//! Reads every key back in one pass per node, and searches for keys that should not exist.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;

use super::super::wire::{Reply, Wire, encode};
use super::classify::{Class, Lifetime, classify, shift};
use super::command::{Scratch, push_read};
use super::job::{Batch, Fate, Job, fate_of};
use super::ledger_file::RecordFileError;
use super::report::Verification;
use super::value::{Found, identify};
use super::work::{self, Limits};
use super::{Ledger, LedgerServers};

/// Options of a verification.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// True to search all owners for keys that the ledger never wrote.
    pub look_for_phantoms: bool,
    /// Time to retry keys that nobody serves.
    pub within: Duration,
    /// Time limit for a node's answer to a batch.
    pub answer_deadline: Duration,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            look_for_phantoms: true,
            within: Duration::from_secs(60),
            answer_deadline: Duration::from_secs(10),
        }
    }
}

/// Time limit for an owner to report its number of keys. Silent owners are searched key by key.
const SIZE_DEADLINE: Duration = Duration::from_secs(1);

pub(super) async fn verify(ledger: &Ledger, target: &LedgerServers, options: &VerifyOptions) -> Verification {
    let start = Instant::now();
    let newest = ledger.journal().generation();
    let sizes = if options.look_for_phantoms {
        sizes(target).await
    } else {
        BTreeMap::new()
    };
    let job = Verifying {
        ledger,
        newest,
        tally: Mutex::default(),
    };
    let limits = Limits {
        within: options.within,
        answer: options.answer_deadline,
    };
    work::run(&ledger.spec, target, &job, limits)
        .await
        .expect("verifying writes no journal");
    let mut tally = job.tally.into_inner().expect("no holder panics");
    if options.look_for_phantoms {
        let mut suspects = owners(target).await;
        suspects.retain(|pod| !tally.accounts_for(pod, sizes.get(pod).copied()));
        look_for_phantoms(ledger, target, options, &suspects, &mut tally.verification).await;
    }
    let mut verification = tally.verification;
    verification.finish(ledger.journal().owners());
    verification.elapsed = start.elapsed();
    verification
}

struct Verifying<'a> {
    ledger: &'a Ledger,
    newest: u8,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    verification: Verification,
    /// Number of the ledger's keys on each pod.
    held: BTreeMap<String, u64>,
    /// True if some key could not be read at the first attempt.
    restless: bool,
}

impl Tally {
    /// Returns true if all `size` keys of a pod before the read were found on it. Keys do not
    /// arrive during the read unless slots move. Keys that vanish make `size` exceed the number
    /// found.
    fn accounts_for(&self, pod: &str, size: Option<u64>) -> bool {
        !self.restless && size.is_some() && size == self.held.get(pod).copied()
    }
}

/// The data of a key that has been read so far.
#[derive(Default)]
struct KeyCheck {
    found: Option<Found>,
    expires_ms: Option<i64>,
    error: Option<Vec<u8>>,
}

impl Job for Verifying<'_> {
    type State = KeyCheck;

    fn encode(&self, buffer: &mut Vec<u8>, scratch: &mut Scratch, index: u64) -> usize {
        push_read(buffer, scratch, &self.ledger.spec, index)
    }

    fn begin(&self, _indexes: &[u64], _states: &mut [KeyCheck]) -> Result<(), RecordFileError> {
        Ok(())
    }

    fn reply(&self, state: &mut KeyCheck, index: u64, number: usize, reply: &Reply<'_>) {
        let spec = &self.ledger.spec;
        match (number, reply) {
            // A type that the ledger did not write: foreign content.
            (0, Reply::Error(error)) if error.starts_with(b"WRONGTYPE") => state.found = Some(Found::Foreign),
            (_, Reply::Error(error)) => state.error = state.error.take().or_else(|| Some(error.to_vec())),
            (0, reply) => {
                state.found = Some(identify(spec, index, &spec.shape(index), reply, self.newest));
            }
            (_, Reply::Integer(expires_ms)) => state.expires_ms = Some(*expires_ms),
            (_, _) => {}
        }
    }

    fn settle(&self, batch: Batch<'_, KeyCheck>) -> Result<Vec<Fate>, RecordFileError> {
        let now_ms = Timestamp::now().as_millisecond();
        let journal = self.ledger.journal();
        let mut tally = self.tally.lock().expect("no holder panics");
        let tally = &mut *tally;
        let mut fates = Vec::with_capacity(batch.indexes.len());
        let mut held_here = 0;
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
                    tally.verification.note_shift(shift(lifetime).unwrap_or_default());
                    let held = match found {
                        Found::Generation(generation) => generation,
                        Found::Absent | Found::Foreign => 0,
                    };
                    tally
                        .verification
                        .count(&self.ledger.spec, index, class, record, held);
                    held_here += u64::from(found != Found::Absent);
                    Fate::Done
                }
                (None, Some(error)) if position < batch.answered => fate_of(error).unwrap_or_else(|code| {
                    tally
                        .verification
                        .unverified(slot, &format!("{}: {code}", batch.pod));
                    Fate::Done
                }),
                // Reading twice does no harm.
                _ => Fate::Again(batch.cause.clone().unwrap_or_default()),
            });
        }
        *tally.held.entry(batch.pod.to_owned()).or_default() += held_here;
        tally.restless |= fates.iter().any(|fate| !matches!(fate, Fate::Done));
        Ok(fates)
    }

    fn give_up(&self, index: u64, cause: &str) -> Result<(), RecordFileError> {
        let slot = self.ledger.spec.slot(index);
        let mut tally = self.tally.lock().expect("no holder panics");
        tally.verification.unverified(slot, cause);
        Ok(())
    }
}

/// Returns the number of all keys that each owner has (`DBSIZE`, a counter of the server). Leaves
/// out owners that do not answer in time.
async fn sizes(target: &LedgerServers) -> BTreeMap<String, u64> {
    target.router.refresh().await;
    let asked = owners(target).await.into_iter().map(async |pod| {
        let size = async {
            let mut wire = open(target, &pod).await?;
            let mut command = Vec::new();
            encode(&mut command, &[b"DBSIZE"]);
            wire.send(&command).await?;
            wire.reply(|reply| match reply {
                Reply::Integer(keys) => u64::try_from(keys).ok(),
                _ => None,
            })
            .await
        };
        let size = tokio::time::timeout(SIZE_DEADLINE, size).await.ok()?.ok()??;
        Some((pod, size))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn owners(target: &LedgerServers) -> Vec<String> {
    let map = target.router.slot_map().await;
    map.owners().into_keys().map(str::to_owned).collect()
}

async fn open(target: &LedgerServers, pod: &str) -> io::Result<Wire> {
    let stream = target.dialer.dial(pod).await?;
    Wire::open(stream, &target.passwords).await
}

/// Walks the keyspace of each of `pods`. A key is a phantom if its name has the ledger's form and
/// was never written. Refused keys have already been read by name.
async fn look_for_phantoms(
    ledger: &Ledger,
    target: &LedgerServers,
    options: &VerifyOptions,
    pods: &[String],
    verification: &mut Verification,
) {
    for pod in pods {
        let walk = async {
            // A stopped server accepts connections but never answers.
            let mut wire = tokio::time::timeout(options.answer_deadline, open(target, pod)).await??;
            let mut cursor = b"0".to_vec();
            loop {
                let step = scan(ledger, &mut wire, &cursor, verification);
                cursor = tokio::time::timeout(options.answer_deadline, step).await??;
                if cursor == b"0" {
                    return Ok::<(), io::Error>(());
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
) -> io::Result<Vec<u8>> {
    /// Number of keys per step, which takes a millisecond of a server's time.
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
            return Err(io::Error::other(format!("SCAN answered {reply:?}")));
        };
        let [next, Reply::Array(names)] = parts.as_slice() else {
            return Err(io::Error::other("SCAN answered something else"));
        };
        for name in names.iter().filter_map(Reply::bytes) {
            let ours = ledger
                .spec
                .index_of(name)
                .filter(|&index| index < ledger.spec.keys);
            // Keys with the ledger's own numbers have been classified by name.
            if ours.is_none() {
                verification.phantom_name(name);
            }
        }
        next.bytes()
            .map(<[u8]>::to_vec)
            .ok_or_else(|| io::Error::other("SCAN gave no cursor"))
    })
    .await?
}

impl Verification {
    fn unverified(&mut self, slot: u16, cause: &str) {
        *self.counts.entry(Class::Unverified).or_default() += 1;
        self.unverified.entry(cause.to_owned()).or_default().insert(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_walked_unless_its_count_matches_and_nothing_moved() {
        let tally = |restless| Tally {
            held: BTreeMap::from([("a".to_owned(), 7)]),
            restless,
            ..Tally::default()
        };
        let calm = tally(false);
        assert!(calm.accounts_for("a", Some(7)));
        assert!(!calm.accounts_for("a", Some(8)), "one more than was found");
        assert!(!calm.accounts_for("a", None), "it did not say");
        assert!(!calm.accounts_for("b", Some(7)), "nothing was read from it");
        assert!(!calm.accounts_for("b", None), "neither");
        assert!(
            !tally(true).accounts_for("a", Some(7)),
            "a key that came may hide one that was there"
        );
    }
}
