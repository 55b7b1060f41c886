//! Going through all keys once, each on the node that owns its slot, in batches, until none is left or patience runs out.
//!
//! What is done with a key, and what a reply means, is the [`Job`]'s business.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::super::reply::Redirect;
use super::super::slot_map::SlotMap;
use super::super::wire::{Reply, encode};
use super::Target;
use super::command::Scratch;
use super::feed::{Feed, first_feeds, next_feeds};
use super::job::{Batch, Fate, Job};
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
        feeds = next_feeds(spec, &map, left.again, left.ask);
    }
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
        {
            let mut keys = feed.keys.lock().expect("no holder panics");
            left.again.extend(std::iter::from_fn(|| keys.take_one()));
        }
        left.pause = true;
        if let Some(&index) = left.again.first() {
            left.cause = target.router.ownerless(spec.slot(index)).await;
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
                    encode(&mut buffer, &[b"ASKING"]);
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
