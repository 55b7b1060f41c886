//! States of the servers that do not heal by waiting, recognised while something else is waited for. Each must last for a
//! while before it counts: a formation passes through all of them.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::error::TrialError;
use super::observer::Observer;
use crate::checks::{self, Moment, readiness};
use crate::valkey::ClusterObservation;
use crate::valkey::view::ViewErrorKind;
use crate::wait::{self, Expectation, Patience, Verdict};

/// How long a state must last. A formation by other means than a hook, such as a container beside each server, takes a few
/// seconds, and a replica's link is tried again every second.
const LASTING: Duration = Duration::from_secs(10);

/// How long it may last while a hook is at it: several times as long as the largest of our own formations takes from the
/// moment in which every server answers.
const AT_IT: Duration = Duration::from_secs(35);

/// How long a server may serve without being ready: longer than the chart's own probe needs for its delay and a period.
const UNREADY: Duration = Duration::from_secs(30);

/// How often to look: seldom, as it is for the rare case.
const INTERVAL: Duration = Duration::from_secs(2);

/// A time that no trial reaches: the other branch of the select has the deadline.
const NEVER: Duration = Duration::from_secs(86_400);

/// A state, in words, and whether the servers are in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    /// In words.
    pub(crate) what: &'static str,
    lasting: Duration,
    holds: fn(&ClusterObservation) -> bool,
}

/// Every server knows nobody but itself. Normal until the hooks have ended, and for good after that.
pub(super) const UNFORMED: State = State {
    what: "no server has known any other",
    lasting: LASTING,
    holds: ClusterObservation::is_unformed,
};

/// The same, for as long as hooks run.
pub(super) const STILL_UNFORMED: State = State {
    lasting: AT_IT,
    ..UNFORMED
};

/// A replica has no password for its primary, which wants one.
pub(super) const UNABLE_TO_SYNC: State = State {
    what: "a replica has had no password for its primary",
    lasting: LASTING,
    holds: |seen| seen.answered().any(|(_, view)| view.is_locked_out()),
};

/// A server refuses every password that it could have.
pub(super) const LOCKED: State = State {
    what: "a server has refused the release's password",
    lasting: LASTING,
    holds: |seen| {
        let mut refusals = seen.views.values().filter_map(|view| view.as_ref().err());
        refusals.any(|error| error.kind == ViewErrorKind::Authentication)
    },
};

/// Every promise holds, and yet a pod is not ready: its probe asks for something else.
pub(crate) const NEVER_READY: State = State {
    what: "a pod that serves has not been ready",
    lasting: UNREADY,
    holds: |seen| {
        let broken = checks::run(seen, Moment::Settled);
        !broken.is_empty() && broken.iter().all(|violation| violation.check == readiness::NAME)
    },
};

/// Resolves when the servers have been in one of `states` for a while, with every promise that is broken; pends for ever
/// otherwise. Time in which the cluster is busy does not count. For `select!` beside something that would wait in vain.
pub(super) async fn hopeless(observer: &Observer, states: &[State], patience: Patience) -> TrialError {
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
            let since = *since.get_or_insert_with(Instant::now);
            if since.elapsed().saturating_sub(patience.excused(since)) >= state.lasting {
                return Verdict::Ready((*state, checks::run(seen, Moment::Settled)));
            }
        }
        Verdict::NotYet("they may still come round".to_owned())
    });
    match lasting.await {
        Ok((state, violations)) => TrialError::Unhealthy {
            waited: format!("and {} for {} s", state.what, state.lasting.as_secs()),
            violations,
        },
        Err(error) => error.into(),
    }
}
