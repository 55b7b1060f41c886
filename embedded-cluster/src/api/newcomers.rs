//! Limits on connections that have not yet made a request that names their user.
//!
//! Anyone who can reach the port can open connections. Connections of strangers must not use up
//! what authenticated clients need. When there are too many newcomers, the newest replaces the
//! oldest. No newcomer stays longer than the deadline of a request's header.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The most newcomers at once. A handshake takes milliseconds, so honest clients are never that
/// many.
const MAX_NEWCOMERS: usize = 256;

/// Time that a connection may stay a newcomer: kube-apiserver's `ReadHeaderTimeout`.
const DEADLINE: Duration = Duration::from_secs(32);

/// The present newcomers, oldest first.
#[derive(Clone)]
pub(super) struct Newcomers {
    queue: Arc<Mutex<Queue>>,
    deadline: Duration,
}

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: VecDeque<(u64, CancellationToken)>,
}

/// One connection. It leaves the queue when it is admitted or dropped.
pub(super) struct Newcomer {
    number: u64,
    since: Instant,
    closed: CancellationToken,
    admitted: CancellationToken,
    queue: Newcomers,
}

impl Default for Newcomers {
    fn default() -> Self {
        Self {
            queue: Arc::default(),
            deadline: DEADLINE,
        }
    }
}

impl Newcomers {
    /// Adds a connection, and closes the oldest newcomer when there are too many.
    pub(super) fn enter(&self) -> Newcomer {
        let closed = CancellationToken::new();
        let mut queue = self.lock();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back((number, closed.clone()));
        let crowded = queue.waiting.len() > MAX_NEWCOMERS;
        drop(queue);
        if crowded {
            self.close_oldest();
        }
        Newcomer {
            number,
            since: Instant::now(),
            closed,
            admitted: CancellationToken::new(),
            queue: self.clone(),
        }
    }

    /// Closes the connection that has been a newcomer for longest.
    pub(super) fn close_oldest(&self) {
        if let Some((_, oldest)) = self.lock().waiting.pop_front() {
            oldest.cancel();
        }
    }

    fn leave(&self, number: u64) {
        self.lock().waiting.retain(|(other, _)| *other != number);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newcomer {
    /// Lets the connection stay, because a request on it has named its user.
    pub(super) fn admit(&self) {
        if !self.admitted.is_cancelled() {
            self.admitted.cancel();
            self.queue.leave(self.number);
        }
    }

    /// Resolves when the connection must be closed. Never resolves once the connection is admitted.
    pub(super) async fn closed(&self) {
        tokio::select! {
            biased;
            () = self.admitted.cancelled() => {}
            () = self.closed.cancelled() => return,
            // A sleep is right here: a silent client produces no event to wait for.
            () = sleep_until(self.since + self.queue.deadline) => return,
        }
        std::future::pending::<()>().await;
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.queue.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_stranger_goes_for_the_newest() {
        let newcomers = Newcomers::default();
        let known = newcomers.enter();
        known.admit();
        let oldest = newcomers.enter();
        let others: Vec<Newcomer> = (0..MAX_NEWCOMERS).map(|_| newcomers.enter()).collect();
        oldest.closed().await;
        assert_eq!(newcomers.lock().waiting.len(), MAX_NEWCOMERS);
        assert!(!others[0].closed.is_cancelled() && !known.closed.is_cancelled());
        drop(others);
        assert!(newcomers.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_stranger_may_stay_for_a_while_and_a_known_client_for_good() {
        let deadline = Duration::from_millis(20);
        let newcomers = Newcomers {
            deadline,
            ..Newcomers::default()
        };
        let (stranger, known) = (newcomers.enter(), newcomers.enter());
        known.admit();
        let start = Instant::now();
        stranger.closed().await;
        assert!(start.elapsed() >= deadline);
        let stays = tokio::time::timeout(deadline * 5, known.closed());
        assert!(stays.await.is_err());
    }
}
