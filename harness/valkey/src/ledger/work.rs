//! The pass over all keys in batches, each key on the node that owns its slot. It ends when no key
//! is left or the deadline passes.
//!
//! The [`Job`] defines a key's commands and interprets the replies.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::super::reply::Redirect;
use super::super::slot_map::SlotMap;
use super::super::wire::{Reply, encode};
use super::LedgerServers;
use super::command::Scratch;
use super::feed::{Feed, first_feeds, next_feeds};
use super::job::{Batch, Fate, Job};
use super::lane::{Broken, Lane};
use super::ledger_file::RecordFileError;
use super::spec::LedgerSpec;

/// A batch ends at this number of keys …
const BATCH_KEYS: usize = 1024;

/// … or at this number of bytes: large values must not pile up in memory.
const BATCH_BYTES: usize = 512 * 1024;

/// Connections per node: one batch is encoded while another is being answered.
const LANES: usize = 2;

/// The pause before a retry of keys on a failed node or in a moving slot.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The keys that are left after a round.
#[derive(Default)]
struct Left {
    /// Keys that were not executed.
    again: Vec<u64>,
    /// Keys by the pod that has them while another pod still owns their slot.
    ask: BTreeMap<String, Vec<u64>>,
    /// The last obstacle.
    cause: String,
    pause: bool,
}

/// The time limits of a pass and of one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) within: Duration,
    pub(super) answer: Duration,
}

/// Passes over all keys of `spec` once.
pub(super) async fn run<J: Job>(
    spec: &LedgerSpec,
    target: &LedgerServers,
    job: &J,
    limits: Limits,
) -> Result<(), RecordFileError> {
    let deadline = Instant::now() + limits.within;
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
    target: &LedgerServers,
    job: &J,
    map: &SlotMap,
    feeds: &[Feed],
    limits: Limits,
) -> Result<Left, RecordFileError> {
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

/// Sends the keys of a feed over one connection, until the feed is empty or the pod is unreachable.
async fn drain<J: Job>(
    spec: &LedgerSpec,
    target: &LedgerServers,
    job: &J,
    map: &SlotMap,
    feed: &Feed,
    limits: Limits,
) -> Result<Left, RecordFileError> {
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
) -> Result<Vec<Fate>, RecordFileError> {
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
                    left.cause = format!("{pod}: ASK to {address}, which is not a known pod");
                }
            },
        }
    }
}
