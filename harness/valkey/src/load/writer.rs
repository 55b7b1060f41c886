//! One writer: appends its numbers one at a time, and follows its slot to other nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::cluster_client::RoutedClient;
use super::super::dialer::Dialer;
use super::super::record_file::RecordFileError;
use super::super::reply::{Redirect, Verdict, judge_text};
use super::super::wire::{Reply, Wire, encode};
use super::LoadOptions;
use super::account::Outcomes;
use super::load_file::{LoadFile, Mark};
use secret::Passwords;

/// The pause before a retry after an obstacle. It is short, as it limits the precision of a
/// measured gap.
const BACK_OFF: Duration = Duration::from_millis(20);

/// The pause before the retry of an unreachable server, and between refreshes of the slot owners.
/// Every writer of the shard retries, and shorter pauses would burden the nodes that take over.
const UNREACHED: Duration = Duration::from_millis(100);

/// Time limit for dialling. A pod that has gone must not delay a writer after its slot has moved.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Writer {
    /// The writer's own column in the file.
    pub(super) index: usize,
    pub(super) shard: String,
    pub(super) slot: u16,
    pub(super) key: String,
    pub(super) confirming: bool,
    pub(super) options: LoadOptions,
    pub(super) dialer: Arc<dyn Dialer>,
    pub(super) passwords: Passwords,
    pub(super) router: Arc<RoutedClient>,
    pub(super) journal: Option<Arc<LoadFile>>,
    pub(super) started: Instant,
}

/// The results of a writer.
pub(super) struct WriterEnd {
    pub(super) shard: String,
    pub(super) slot: u16,
    pub(super) key: String,
    /// The last number that the writer tried.
    pub(super) attempted: u64,
    pub(super) outcomes: Outcomes,
    /// Times of successful writes since the start, ascending.
    pub(super) successes: Vec<Duration>,
    /// Obstacles, with the number of times each occurred: error codes and connection failures.
    pub(super) obstacles: BTreeMap<String, u64>,
}

/// The result of one attempt.
enum Attempt {
    Acknowledged { confirmed: bool },
    Unknown(String),
    Refused(String),
    Later(String),
    Unreached(String),
    Elsewhere(Redirect),
}

/// A connection to the presumed owner of the slot.
struct Link {
    wire: Wire,
    asking: bool,
}

impl Writer {
    /// Writes until it is stopped or cannot record its writes. A write without a record proves
    /// nothing.
    pub(super) async fn run(self, stop: CancellationToken) -> (WriterEnd, Result<(), RecordFileError>) {
        let mut end = WriterEnd {
            shard: self.shard.clone(),
            slot: self.slot,
            key: self.key.clone(),
            attempted: 0,
            outcomes: Outcomes::default(),
            successes: Vec::new(),
            obstacles: BTreeMap::new(),
        };
        let recorded = self.write_all(&mut end, &stop).await;
        (end, recorded)
    }

    async fn write_all(&self, end: &mut WriterEnd, stop: &CancellationToken) -> Result<(), RecordFileError> {
        let mut link: Option<Link> = None;
        while !stop.is_cancelled() {
            let number = end.attempted + 1;
            self.note(number, Mark::Sent)?;
            end.attempted = number;
            let mark = self.write(number, &mut link, end, stop).await;
            self.note(number, mark)?;
            pause(self.options.pace, stop).await;
        }
        Ok(())
    }

    fn note(&self, number: u64, mark: Mark) -> Result<(), RecordFileError> {
        match &self.journal {
            Some(journal) => journal.note(self.index, number, mark, self.started.elapsed()),
            None => Ok(()),
        }
    }

    /// Tries one number until its outcome is final or unknown, or the writer is stopped.
    async fn write(
        &self,
        number: u64,
        link: &mut Option<Link>,
        end: &mut WriterEnd,
        stop: &CancellationToken,
    ) -> Mark {
        loop {
            let (obstacle, back_off) = match self.attempt(number, link).await {
                Attempt::Acknowledged { confirmed } => {
                    end.outcomes.acknowledged.insert(number);
                    end.successes.push(self.started.elapsed());
                    if confirmed {
                        end.outcomes.confirmed.insert(number);
                        return Mark::Confirmed;
                    }
                    return Mark::Acknowledged;
                }
                Attempt::Unknown(cause) => {
                    *link = None;
                    end.outcomes.unknown.insert(number);
                    *end.obstacles.entry(cause).or_default() += 1;
                    self.router.refresh_if_older(UNREACHED).await;
                    return Mark::Sent;
                }
                Attempt::Refused(code) => {
                    end.outcomes.refused.insert(number);
                    *end.obstacles.entry(code).or_default() += 1;
                    return Mark::Refused;
                }
                Attempt::Later(cause) => {
                    *link = None;
                    (cause, Some(BACK_OFF))
                }
                Attempt::Unreached(cause) => {
                    *link = None;
                    (cause, Some(UNREACHED))
                }
                Attempt::Elsewhere(Redirect::Moved { slot, address }) => {
                    *link = None;
                    let known = self.router.learn(slot, &address).await;
                    ("MOVED".to_owned(), (!known).then_some(BACK_OFF))
                }
                Attempt::Elsewhere(Redirect::Ask { address }) => {
                    *link = self.ask(&address).await;
                    ("ASK".to_owned(), link.is_none().then_some(BACK_OFF))
                }
            };
            *end.obstacles.entry(obstacle).or_default() += 1;
            if stop.is_cancelled() {
                end.outcomes.refused.insert(number);
                return Mark::Refused;
            }
            if let Some(back_off) = back_off {
                pause(back_off, stop).await;
                self.router.refresh_if_older(UNREACHED).await;
            }
        }
    }

    async fn attempt(&self, number: u64, link: &mut Option<Link>) -> Attempt {
        if link.is_none() {
            let owner = self.router.slot_map().await.owner(self.slot).map(str::to_owned);
            let Some(pod) = owner else {
                return Attempt::Later("no known owner".to_owned());
            };
            match self.connect(&pod).await {
                Ok(wire) => *link = Some(Link { wire, asking: false }),
                Err(cause) => return Attempt::Unreached(cause),
            }
        }
        let Some(open) = link.as_mut() else {
            return Attempt::Later("no connection".to_owned());
        };
        let (attempt, intact) = self.send(number, open).await;
        // ASKING covers only one command. An outstanding answer would be mistaken for the next
        // command's.
        if open.asking || !intact {
            *link = None;
        }
        attempt
    }

    /// Sends a number; the flag is true if every answer came.
    async fn send(&self, number: u64, link: &mut Link) -> (Attempt, bool) {
        let mut commands = Vec::new();
        let mut count = 1;
        if link.asking {
            encode(&mut commands, &[b"ASKING"]);
            count += 1;
        }
        encode(
            &mut commands,
            &[b"RPUSH", self.key.as_bytes(), number.to_string().as_bytes()],
        );
        let write = count - 1;
        if self.confirming {
            let timeout = self.options.confirm_timeout.as_millis().to_string();
            encode(&mut commands, &[b"WAIT", b"1", timeout.as_bytes()]);
            count += 1;
        }
        let (mut error, mut written, mut confirmed) = (None, false, false);
        let exchange = link
            .wire
            .pipeline(&commands, count, |position, reply| match reply {
                Reply::Error(text) if position == write => {
                    error = Some(String::from_utf8_lossy(text).into_owned());
                }
                Reply::Integer(_) if position == write => written = true,
                Reply::Integer(replicas) if position > write => confirmed = replicas > 0,
                _ => {}
            });
        let confirm = if self.confirming {
            self.options.confirm_timeout
        } else {
            Duration::ZERO
        };
        let result = tokio::time::timeout(self.options.answer_deadline + confirm, exchange).await;
        let intact = matches!(result, Ok(Ok(())));
        let attempt = match (error, written, result) {
            (Some(text), _, _) => verdict(&text),
            // The server acknowledged the write before the connection broke.
            (None, true, _) => Attempt::Acknowledged { confirmed },
            (None, false, Ok(Ok(()))) => Attempt::Unknown("an answer that is not a number".to_owned()),
            (None, false, Ok(Err(error))) => Attempt::Unknown(format!("connection broke: {}", error.kind())),
            (None, false, Err(_elapsed)) => Attempt::Unknown("no answer".to_owned()),
        };
        (attempt, intact)
    }

    async fn ask(&self, address: &str) -> Option<Link> {
        let pod = self.router.slot_map().await.pod_at(address).map(str::to_owned)?;
        let wire = self.connect(&pod).await.ok()?;
        Some(Link { wire, asking: true })
    }

    async fn connect(&self, pod: &str) -> Result<Wire, String> {
        let connecting = async {
            let stream = self.dialer.dial(pod).await?;
            Wire::open(stream, &self.passwords).await
        };
        match tokio::time::timeout(DIAL_TIMEOUT, connecting).await {
            Ok(result) => result.map_err(|error| format!("connecting: {}", error.kind())),
            Err(_elapsed) => Err("connecting: no answer".to_owned()),
        }
    }
}

fn verdict(text: &str) -> Attempt {
    let code = text.split(' ').next().unwrap_or_default().to_owned();
    match judge_text(text) {
        Verdict::Final => Attempt::Refused(code),
        Verdict::Later => Attempt::Later(code),
        Verdict::Elsewhere(redirect) => Attempt::Elsewhere(redirect),
    }
}

/// Pauses for the load's pace or a back-off. Ends early when the load is stopped.
async fn pause(length: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep_until(Instant::now() + length) => {}
        () = stop.cancelled() => {}
    }
}
