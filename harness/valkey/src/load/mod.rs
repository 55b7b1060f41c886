//! Background load: writers that run while the cluster changes, and the report of their results.
//!
//! Each writer appends the numbers 1, 2, 3 … to its own list, one by one, over its own
//! connection. The final list distinguishes lost acknowledged writes, rollbacks, duplicates and
//! disorder. The times of successful writes give each shard's longest gap. A number with an unknown
//! outcome is not sent again.
//!
//! The load measures availability and order. The [ledger](super::ledger) verifies that *all* data
//! survives.
//!
//! | module | content |
//! |---|---|
//! | [`account`] | the comparison of a writer's list with its writes; pure |
//! | [`report`] | the result per shard, and its violations |
//! | `load_file` | each number's fate on disk, for [`Load::recover`] after the harness was killed |

pub mod account;
mod load_file;
pub mod report;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use redis::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::account::{Outcomes, judge};
use self::load_file::{About, Column, LoadFile};
pub use self::report::{LoadReport, ShardReport};
use self::report::{WriterReport, gaps};
use self::writer::{Writer, WriterEnd};
use super::cluster_client::{DEFAULT_DEADLINE, RoutedClient};
use super::dialer::Dialer;
use super::record_file::RecordFileError;
use super::resp;
use super::routed::Resend;
use super::slots::{SlotSet, tag_for_slot};
use secret::Passwords;
use wait::{self, Expectation, Verdict, WaitError};

/// Interval between requests for slot owners until an answer comes.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The size and the kind of a load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Distinguishes this load's keys from others.
    pub label: String,
    /// Writers per shard. With several writers, one slow connection is no gap of the shard.
    pub writers_per_shard: u16,
    /// Number of the writers that wait for a replica after every write (`WAIT 1`).
    pub confirming_per_shard: u16,
    /// Time limit of a write, after which its outcome is unknown.
    pub answer_deadline: Duration,
    /// Time that a confirming writer waits for the replica.
    pub confirm_timeout: Duration,
    /// The pause of each writer between writes.
    pub pace: Duration,
    /// The folder that records each outcome at once; `None` if the record need not outlive the
    /// harness.
    pub journal: Option<PathBuf>,
}

impl Default for LoadOptions {
    /// Returns options with four writers per shard, one of them confirming. Each writes at most
    /// once per 20 ms, which measures a shard's gap to about 5 ms. The load does not compete with
    /// the cluster that it watches.
    fn default() -> Self {
        Self {
            label: "load".to_owned(),
            writers_per_shard: 4,
            confirming_per_shard: 1,
            answer_deadline: Duration::from_secs(2),
            confirm_timeout: Duration::from_secs(1),
            pace: Duration::from_millis(20),
            journal: None,
        }
    }
}

/// A running load. Dropping it stops the writers and discards their results; [`stop`](Load::stop)
/// returns them.
pub struct Load {
    options: LoadOptions,
    router: Arc<RoutedClient>,
    shards: BTreeMap<String, SlotSet>,
    writers: JoinSet<(WriterEnd, Result<(), RecordFileError>)>,
    stop: CancellationToken,
    started: Instant,
    started_at: Timestamp,
}

/// The reason why a load could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No pod owns slots, or no pod reports the owners.
    #[error("background load: {0}")]
    NoOwners(WaitError),
    /// The fates of the writes cannot be recorded.
    #[error("background load: failed to record the writes")]
    RecordFile(#[from] RecordFileError),
}

impl Load {
    /// Starts writing to every shard that owns slots now. A shard remains its present set of slots,
    /// wherever the slots go.
    ///
    /// # Errors
    /// When no pod owns a slot, or the journal cannot be made.
    pub async fn start(
        dialer: Arc<dyn Dialer>,
        passwords: impl Into<Passwords>,
        pods: Vec<String>,
        options: LoadOptions,
    ) -> Result<Self, LoadError> {
        let passwords = passwords.into();
        let router = Arc::new(RoutedClient::new(dialer.clone(), passwords.clone(), pods));
        let shards = shards(&router).await?;
        let (started, started_at) = (Instant::now(), Timestamp::now());
        let lines = lines(&shards, &options);
        let journal = match &options.journal {
            None => None,
            Some(dir) => {
                let about = About {
                    started_at,
                    shards: shards.clone(),
                    writers: lines.iter().map(|line| line.0.clone()).collect(),
                };
                Some(Arc::new(LoadFile::create(dir, &about)?))
            }
        };
        let stop = CancellationToken::new();
        let mut writers = JoinSet::new();
        for (index, (column, confirming)) in lines.into_iter().enumerate() {
            let writer = Writer {
                index,
                shard: column.shard,
                slot: column.slot,
                key: column.key,
                confirming,
                options: options.clone(),
                dialer: dialer.clone(),
                passwords: passwords.clone(),
                router: router.clone(),
                journal: journal.clone(),
                started,
            };
            writers.spawn(writer.run(stop.clone()));
        }
        Ok(Self {
            options,
            router,
            shards,
            writers,
            stop,
            started,
            started_at,
        })
    }

    /// Replaces the writers' list of the release's pods.
    pub async fn set_pods(&self, pods: Vec<String>) {
        self.router.set_pods(pods).await;
    }

    /// Stops the writers, reads their lists back and accounts for every number.
    pub async fn stop(mut self) -> LoadReport {
        self.stop.cancel();
        let (mut ends, mut unrecorded) = (Vec::new(), None);
        while let Some(ended) = self.writers.join_next().await {
            let (end, recorded) = ended.expect("a writer does not panic and is not aborted");
            ends.push(end);
            unrecorded = unrecorded.or(recorded.err());
        }
        let met = Met {
            started_at: self.started_at,
            stopped: self.started.elapsed(),
            shards: self.shards,
            ends,
        };
        LoadReport {
            unrecorded: unrecorded.map(|error| with_cause(&error)),
            ..met.report(&self.router).await
        }
    }

    /// Reports a load after its harness was killed. Uses the journal in `dir` and the lists that
    /// the writers left. Numbers in flight at that time have an unknown outcome.
    ///
    /// # Errors
    /// When there is no journal, or it is damaged.
    pub async fn recover(
        dir: &Path,
        dialer: Arc<dyn Dialer>,
        passwords: impl Into<Passwords>,
        pods: Vec<String>,
    ) -> Result<LoadReport, RecordFileError> {
        let (about, ends) = load_file::read(dir)?;
        let router = RoutedClient::new(dialer, passwords.into(), pods);
        router.refresh().await;
        let last = ends.iter().filter_map(|end| end.successes.last()).max();
        let met = Met {
            started_at: about.started_at,
            stopped: last.copied().unwrap_or_default(),
            shards: about.shards,
            ends,
        };
        Ok(met.report(&router).await)
    }

    /// Returns the options of the load.
    pub fn options(&self) -> &LoadOptions {
        &self.options
    }

    /// Returns the shards of the load: their slots by the pod that owned them at the start.
    pub fn shards(&self) -> &BTreeMap<String, SlotSet> {
        &self.shards
    }

    /// Returns the keys of the load. The flag is true if the key's writer waits for a replica.
    pub fn keys(&self) -> Vec<(String, bool)> {
        let lines = lines(&self.shards, &self.options).into_iter();
        lines
            .map(|(column, confirming)| (column.key, confirming))
            .collect()
    }
}

/// Waits for the first report of the shards. On a busy machine, the first request may get no
/// answer.
async fn shards(router: &RoutedClient) -> Result<BTreeMap<String, SlotSet>, LoadError> {
    let what = Expectation::new("the cluster", "to say which pods own slots", DEFAULT_DEADLINE);
    let owners = wait::poll(what, LOOK_INTERVAL, || async {
        router.refresh().await;
        let map = router.slot_map().await;
        let owners = map.owners().into_iter();
        let owners: BTreeMap<_, _> = owners.map(|(pod, slots)| (pod.to_owned(), slots)).collect();
        if owners.is_empty() {
            return Verdict::NotYet(router.ownerless(0).await);
        }
        Verdict::Ready(owners)
    });
    owners.await.map_err(LoadError::NoOwners)
}

/// Returns the writers with their keys. The flag is true if the writer waits for a replica.
fn lines(shards: &BTreeMap<String, SlotSet>, options: &LoadOptions) -> Vec<(Column, bool)> {
    let count = options.writers_per_shard;
    let of_shard = |(pod, slots): (&String, &SlotSet)| {
        let pod = pod.clone();
        (0..count)
            .zip(spread(slots, count))
            .map(move |(number, slot)| (pod.clone(), number, slot))
    };
    shards
        .iter()
        .flat_map(of_shard)
        .map(|(shard, number, slot)| {
            let key = key(&options.label, slot, number);
            (Column { shard, slot, key }, number < options.confirming_per_shard)
        })
        .collect()
}

/// The results of all writers.
struct Met {
    started_at: Timestamp,
    stopped: Duration,
    shards: BTreeMap<String, SlotSet>,
    ends: Vec<WriterEnd>,
}

impl Met {
    /// Reads the writers' lists back and accounts for every number.
    async fn report(self, router: &RoutedClient) -> LoadReport {
        let mut shards = BTreeMap::new();
        for (pod, slots) in &self.shards {
            let of_shard = self.ends.iter().filter(|end| end.shard == *pod);
            let (longest_gap, gap_began) = gaps(of_shard.map(|end| end.successes.as_slice()), self.stopped);
            let shard = ShardReport {
                slots: slots.clone(),
                longest_gap,
                gap_began_at: self.at(gap_began),
                writers: Vec::new(),
            };
            shards.insert(pod.clone(), shard);
        }
        for end in &self.ends {
            let writer = account_of(end, router).await;
            let shard = shards.get_mut(&end.shard).expect("a writer's shard");
            shard.writers.push(writer);
        }
        for shard in shards.values_mut() {
            shard.writers.sort_by(|a, b| a.key.cmp(&b.key));
        }
        LoadReport {
            started_at: self.started_at,
            duration: self.stopped,
            shards,
            unrecorded: None,
        }
    }

    fn at(&self, since_start: Duration) -> Timestamp {
        let elapsed = jiff::SignedDuration::try_from(since_start).unwrap_or(jiff::SignedDuration::MAX);
        self.started_at.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}

async fn account_of(end: &WriterEnd, router: &RoutedClient) -> WriterReport {
    let question = redis::cmd("LRANGE").arg(&end.key).arg(0).arg(-1).to_owned();
    let list = match router.execute(end.slot, question, Resend::Idempotent).await {
        Ok(value) => numbers(&value),
        Err(error) => Err(error.to_string()),
    };
    let Outcomes {
        acknowledged,
        unknown,
        refused,
        confirmed,
    } = &end.outcomes;
    WriterReport {
        key: end.key.clone(),
        slot: end.slot,
        attempted: end.attempted,
        acknowledged: acknowledged.len() as u64,
        unknown: unknown.len() as u64,
        confirmed: confirmed.len() as u64,
        not_executed: refused.len() as u64,
        obstacles: end.obstacles.clone(),
        account: list.map(|list| judge(&end.outcomes, &list)),
    }
}

fn with_cause(error: &RecordFileError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Returns `count` slots, spread over the set.
fn spread(slots: &SlotSet, count: u16) -> Vec<u16> {
    let all: Vec<u16> = slots.iter().collect();
    let count = usize::from(count);
    (0..count).map(|n| all[n * all.len() / count.max(1)]).collect()
}

fn key(label: &str, slot: u16, number: u16) -> String {
    format!("{label}:{{{}}}:{number}", tag_for_slot(slot))
}

fn numbers(value: &Value) -> Result<Vec<u64>, String> {
    let unexpected = || "its list holds a value that is not a number".to_owned();
    resp::items(value)
        .ok_or_else(unexpected)?
        .iter()
        .map(|item| {
            resp::text(item)
                .and_then(|text| text.parse().ok())
                .ok_or_else(unexpected)
        })
        .collect()
}
