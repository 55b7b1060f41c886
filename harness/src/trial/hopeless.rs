//! States of the servers that do not heal by waiting, recognised while something else is waited for. Each must last for a
//! while before it counts: a formation passes through all of them.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::error::TrialError;
use super::observer::Observer;
use crate::checks::{self, Moment};
use crate::valkey::ClusterObservation;
use crate::wait::{self, Expectation, Verdict};

/// How long a state must last. A formation by other means than a hook, such as a container beside each server, takes a few
/// seconds, and a replica's link is tried again every second.
const LASTING: Duration = Duration::from_secs(10);

/// How often to look: seldom, as it is for the rare case.
const INTERVAL: Duration = Duration::from_secs(2);

/// A time that no trial reaches: the other branch of the select has the deadline.
const NEVER: Duration = Duration::from_secs(86_400);

/// A state, in words, and whether the servers are in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    what: &'static str,
    holds: fn(&ClusterObservation) -> bool,
}

/// Every server knows nobody but itself. Normal until the hooks have ended, and for good after that.
pub(super) const UNFORMED: State = State {
    what: "no server has known any other",
    holds: ClusterObservation::is_unformed,
};

/// A replica has no password for its primary, which wants one.
pub(super) const UNABLE_TO_SYNC: State = State {
    what: "a replica has had no password for its primary",
    holds: |seen| seen.answered().any(|(_, view)| view.is_locked_out()),
};

/// Resolves when the servers have been in one of `states` for a while, with every promise that is broken; pends for ever
/// otherwise. For `select!` beside something that would wait in vain.
pub(super) async fn hopeless(observer: &Observer, states: &[State]) -> TrialError {
    let since: Mutex<Vec<Option<Instant>>> = Mutex::new(vec![None; states.len()]);
    let never = Expectation::new("the servers", "to be beyond hope", NEVER);
    let lasting = wait::poll(never, INTERVAL, || async {
        let seen = observer.observe().await.ok();
        let mut since = since.lock().expect("no code panics while it holds the moments");
        for (state, since) in states.iter().zip(since.iter_mut()) {
            let Some(seen) = seen.as_ref().filter(|seen| (state.holds)(seen)) else {
                *since = None;
                continue;
            };
            if since.get_or_insert_with(Instant::now).elapsed() >= LASTING {
                return Verdict::Ready((state.what, checks::run(seen, Moment::Settled)));
            }
        }
        Verdict::NotYet("they may still come round".to_owned())
    });
    match lasting.await {
        Ok((what, violations)) => TrialError::Unhealthy {
            waited: format!("and {what} for {} s", LASTING.as_secs()),
            violations,
        },
        Err(error) => error.into(),
    }
}
