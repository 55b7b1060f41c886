//! Going through all keys once, each on the node that owns its slot, in batches, until none is left or patience runs out.
//!
//! What is done with a key, and what a reply means, is the [`Job`]'s business: [`write`](super::write) or
//! [`verify`](super::verify).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::super::reply::{Redirect, Verdict, judge_text};
use super::super::slot_map::SlotMap;
use super::super::slots::{SLOT_COUNT, SlotSet};
use super::super::wire::Reply;
use super::Target;
use super::command::Scratch;
use super::journal::JournalError;
use super::lane::{Broken, Lane};
use super::spec::LedgerSpec;

/// A batch ends when it has so many keys …
const BATCH_KEYS: usize = 1024;

/// … or so many bytes: large values must not pile up in memory.
const BATCH_BYTES: usize = 512 * 1024;

/// Connections per node: while one batch is being answered, the next is being encoded.
const LANES: usize = 2;

/// The pause before keys are tried again whose node was down or whose slot was moving.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What happens to a key next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is settled.
    Done,
    /// It was not executed: try again, for this reason.
    Again(String),
    /// It was not executed: another node has it.
    Elsewhere(Redirect),
}

/// What is done with each key.
pub(super) trait Job: Sync {
    /// What is gathered from a key's replies.
    type State: Default + Send;

    /// Appends a key's commands; gives how many replies they make.
    fn encode(&self, buffer: &mut Vec<u8>, scratch: &mut Scratch, index: u64) -> usize;

    /// Appends a command to the end of a batch, if there is one; its reply is an integer.
    fn trailer(&self, _buffer: &mut Vec<u8>) -> bool {
        false
    }

    /// Is told which keys are about to be sent.
    fn begin(&self, indexes: &[u64], states: &mut [Self::State]) -> Result<(), JournalError>;

    /// Takes in one reply of a key.
    fn reply(&self, state: &mut Self::State, index: u64, number: usize, reply: &Reply<'_>);

    /// Is told how a batch ended, and decides what becomes of its keys. `answered` keys have all their replies.
    fn settle(&self, batch: Batch<'_, Self::State>) -> Result<Vec<Fate>, JournalError>;

    /// Is told of a key that was not executed before patience ran out.
    fn give_up(&self, index: u64, cause: &str) -> Result<(), JournalError>;
}

/// A batch after its replies.
pub(super) struct Batch<'a, S> {
    pub(super) pod: &'a str,
    pub(super) indexes: &'a [u64],
    pub(super) states: Vec<S>,
    /// How many keys, from the first, have all their replies.
    pub(super) answered: usize,
    /// Whether the rest may have been executed.
    pub(super) sent: bool,
    /// Why the rest has none.
    pub(super) cause: Option<String>,
    pub(super) trailer: Option<i64>,
}

/// Keys that wait to be sent to one pod.
struct Feed {
    pod: String,
    asking: bool,
    keys: Mutex<Keys>,
}

/// A range is walked row by row (one key per slot and row), so that neighbours in the journal go together.
enum Keys {
    Range {
        slots: Vec<u16>,
        row: u64,
        next: usize,
        count: u64,
    },
    List {
        indexes: Vec<u64>,
        next: usize,
    },
}

impl Keys {
    fn take_one(&mut self) -> Option<u64> {
        match self {
            Self::List { indexes, next } => {
                let index = *indexes.get(*next)?;
                *next += 1;
                Some(index)
            }
            Self::Range {
                slots,
                row,
                next,
                count,
            } => loop {
                let Some(&slot) = slots.get(*next) else {
                    *next = 0;
                    *row += 1;
                    if slots.is_empty() || *row * u64::from(SLOT_COUNT) >= *count {
                        slots.clear();
                        return None;
                    }
                    continue;
                };
                *next += 1;
                let index = *row * u64::from(SLOT_COUNT) + u64::from(slot);
                if index < *count {
                    return Some(index);
                }
            },
        }
    }
}

/// What is left after a round.
#[derive(Default)]
struct Left {
    /// Keys that were not executed.
    again: Vec<u64>,
    /// By pod, keys that it has while their slot is still another's.
    ask: BTreeMap<String, Vec<u64>>,
    /// The last obstacle.
    cause: String,
    pause: bool,
}

/// How long to go on, and how long to wait for one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) patience: Duration,
    pub(super) answer: Duration,
}

/// Goes through all keys of `spec` once.
pub(super) async fn run<J: Job>(
    spec: &LedgerSpec,
    target: &Target,
    job: &J,
    limits: Limits,
) -> Result<(), JournalError> {
    let deadline = Instant::now() + limits.patience;
    target.router.refresh().await;
    let mut map = target.router.slot_map().await;
    let mut feeds = first_feeds(spec, &map);
    loop {
        let left = round(spec, target, job, &map, &feeds, limits).await?;
        if left.again.is_empty() && left.ask.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let stranded = left.again.iter().chain(left.ask.values().flatten());
            return stranded
                .copied()
                .try_for_each(|index| job.give_up(index, &left.cause));
        }
        if left.pause {
            tokio::time::sleep_until(Instant::now() + BACK_OFF).await;
        }
        if !left.again.is_empty() {
            target.router.refresh().await;
            map = target.router.slot_map().await;
        }
        feeds = next_feeds(spec, &map, left);
    }
}

fn first_feeds(spec: &LedgerSpec, map: &SlotMap) -> Vec<Feed> {
    let owners = map.owners();
    let mut feeds: Vec<Feed> = owners
        .iter()
        .map(|(pod, slots)| range_feed(spec, pod, slots))
        .collect();
    // Slots without a known owner are kept under an empty pod name, which the next round looks up again.
    let owned: SlotSet = owners.values().flat_map(SlotSet::iter).collect();
    let orphans = SlotSet::full().difference(&owned);
    if !orphans.is_empty() {
        feeds.push(range_feed(spec, "", &orphans));
    }
    feeds
}

fn range_feed(spec: &LedgerSpec, pod: &str, slots: &SlotSet) -> Feed {
    let keys = Keys::Range {
        slots: slots.iter().collect(),
        row: 0,
        next: 0,
        count: spec.keys,
    };
    Feed {
        pod: pod.to_owned(),
        asking: false,
        keys: Mutex::new(keys),
    }
}

fn next_feeds(spec: &LedgerSpec, map: &SlotMap, left: Left) -> Vec<Feed> {
    let mut groups: BTreeMap<(String, bool), Vec<u64>> = BTreeMap::new();
    for index in left.again {
        let pod = map.owner(spec.slot(index)).unwrap_or_default();
        groups.entry((pod.to_owned(), false)).or_default().push(index);
    }
    for (pod, indexes) in left.ask {
        groups.entry((pod, true)).or_default().extend(indexes);
    }
    groups
        .into_iter()
        .map(|((pod, asking), mut indexes)| {
            indexes.sort_unstable();
            Feed {
                pod,
                asking,
                keys: Mutex::new(Keys::List { indexes, next: 0 }),
            }
        })
        .collect()
}

async fn round<J: Job>(
    spec: &LedgerSpec,
    target: &Target,
    job: &J,
    map: &SlotMap,
    feeds: &[Feed],
    limits: Limits,
) -> Result<Left, JournalError> {
    let lanes = feeds.iter().flat_map(|feed| (0..LANES).map(move |_| feed));
    let all = try_join_all(lanes.map(|feed| drain(spec, target, job, map, feed, limits))).await?;
    let mut left = Left::default();
    for part in all {
        left.again.extend(part.again);
        for (pod, indexes) in part.ask {
            left.ask.entry(pod).or_default().extend(indexes);
        }
        left.pause |= part.pause;
        if !part.cause.is_empty() {
            left.cause = part.cause;
        }
    }
    Ok(left)
}

/// Sends what a feed holds over one connection, until it is empty or the pod cannot be reached.
async fn drain<J: Job>(
    spec: &LedgerSpec,
    target: &Target,
    job: &J,
    map: &SlotMap,
    feed: &Feed,
    limits: Limits,
) -> Result<Left, JournalError> {
    let mut left = Left::default();
    let mut lane = Lane::new(target, &feed.pod);
    let mut scratch = Scratch::default();
    let mut buffer = Vec::with_capacity(BATCH_BYTES);
    let (mut indexes, mut replies) = (Vec::with_capacity(BATCH_KEYS), Vec::with_capacity(BATCH_KEYS));
    if feed.pod.is_empty() {
        let mut keys = feed.keys.lock().expect("no holder panics");
        left.again.extend(std::iter::from_fn(|| keys.take_one()));
        left.pause = true;
        if let Some(&index) = left.again.first() {
            left.cause = format!("slot {} has no known owner", spec.slot(index));
        }
        return Ok(left);
    }
    loop {
        buffer.clear();
        indexes.clear();
        replies.clear();
        {
            let mut keys = feed.keys.lock().expect("no holder panics");
            while indexes.len() < BATCH_KEYS && buffer.len() < BATCH_BYTES {
                let Some(index) = keys.take_one() else { break };
                let asking = usize::from(feed.asking);
                if feed.asking {
                    super::super::wire::encode(&mut buffer, &[b"ASKING"]);
                }
                indexes.push(index);
                replies.push(asking + job.encode(&mut buffer, &mut scratch, index));
            }
        }
        if indexes.is_empty() {
            return Ok(left);
        }
        let fates = exchange(job, &mut lane, feed, &mut buffer, &indexes, &replies, limits).await?;
        sort_out(&mut left, map, &indexes, fates, &feed.pod);
    }
}

async fn exchange<J: Job>(
    job: &J,
    lane: &mut Lane<'_>,
    feed: &Feed,
    buffer: &mut Vec<u8>,
    indexes: &[u64],
    replies: &[usize],
    limits: Limits,
) -> Result<Vec<Fate>, JournalError> {
    let has_trailer = job.trailer(buffer);
    let total = replies.iter().sum::<usize>() + usize::from(has_trailer);
    let skip = usize::from(feed.asking);
    let mut states: Vec<J::State> = Vec::new();
    states.resize_with(indexes.len(), J::State::default);
    job.begin(indexes, &mut states)?;
    let (mut answered, mut number) = (0, 0);
    let mut trailer = None;
    let result = lane
        .exchange(buffer, total, limits.answer, |_, reply| {
            let Some(&index) = indexes.get(answered) else {
                trailer = match reply {
                    Reply::Integer(number) => Some(number),
                    _ => None,
                };
                return;
            };
            if number >= skip {
                job.reply(&mut states[answered], index, number - skip, &reply);
            }
            number += 1;
            if number == replies[answered] {
                (answered, number) = (answered + 1, 0);
            }
        })
        .await;
    let (sent, cause) = match result {
        Ok(()) => (true, None),
        Err(Broken::NotSent(cause)) => (false, Some(cause)),
        Err(Broken::Lost(cause)) => (true, Some(cause)),
    };
    job.settle(Batch {
        pod: &feed.pod,
        indexes,
        states,
        answered,
        sent,
        cause,
        trailer,
    })
}

fn sort_out(left: &mut Left, map: &SlotMap, indexes: &[u64], fates: Vec<Fate>, pod: &str) {
    for (&index, fate) in indexes.iter().zip(fates) {
        match fate {
            Fate::Done => {}
            Fate::Again(cause) => {
                left.again.push(index);
                left.pause = true;
                left.cause = format!("{pod}: {cause}");
            }
            Fate::Elsewhere(Redirect::Moved { .. }) => {
                left.again.push(index);
                left.cause = format!("{pod}: MOVED");
            }
            Fate::Elsewhere(Redirect::Ask { address }) => match map.pod_at(&address) {
                Some(pod) => left.ask.entry(pod.to_owned()).or_default().push(index),
                None => {
                    left.again.push(index);
                    left.pause = true;
                    left.cause = format!("{pod}: ASK to {address}, which is no known pod");
                }
            },
        }
    }
}

/// What an error reply means for a key: its fate when it was not executed, or the final error's code.
pub(super) fn fate_of(error: &[u8]) -> Result<Fate, String> {
    let text = String::from_utf8_lossy(error);
    let code = text.split(' ').next().unwrap_or_default().to_owned();
    match judge_text(&text) {
        Verdict::Final => Err(code),
        Verdict::Later => Ok(Fate::Again(text.into_owned())),
        Verdict::Elsewhere(redirect) => Ok(Fate::Elsewhere(redirect)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_walked_row_by_row_and_ends_with_the_keys() {
        let count = u64::from(SLOT_COUNT) * 2 + 2;
        let mut keys = Keys::Range {
            slots: vec![0, 1, 5],
            row: 0,
            next: 0,
            count,
        };
        let all: Vec<u64> = std::iter::from_fn(|| keys.take_one()).collect();
        assert_eq!(all, [0, 1, 5, 16384, 16385, 16389, 32768, 32769]);
        assert_eq!(keys.take_one(), None);
    }

    #[test]
    fn errors_decide_a_keys_fate() {
        assert_eq!(fate_of(b"OOM command not allowed"), Err("OOM".to_owned()));
        assert_eq!(
            fate_of(b"MISCONF Valkey is configured to save"),
            Err("MISCONF".to_owned())
        );
        assert!(matches!(
            fate_of(b"CLUSTERDOWN Hash slot not served"),
            Ok(Fate::Again(_))
        ));
        let ask = Redirect::Ask {
            address: "10.0.0.1:6379".to_owned(),
        };
        assert_eq!(fate_of(b"ASK 5 10.0.0.1:6379"), Ok(Fate::Elsewhere(ask)));
    }
}
