//! States of the servers that waiting does not end, recognised during another wait. A state counts
//! only after a while, because a formation passes through all of them.

mod signs;

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::signs::{announces_what_no_pod_has, is_alone, offers_wrong_password};
use super::error::{TrialError, When};
use super::observer::Observer;
use crate::checks::{self, readiness};
use crate::valkey::ClusterObservation;
use crate::valkey::view::ViewErrorKind;
use crate::wait::{self, DeadlinePauses, Expectation, Verdict};

/// Time that a state must last. A formation without a hook takes a few seconds, for example by a
/// sidecar container. A replica retries its link every second.
const LASTING: Duration = Duration::from_secs(10);

/// Time that a state may last while a hook runs. Our largest formation is several times faster,
/// counted from the moment when every server answers.
const LASTING_DURING_HOOK: Duration = Duration::from_secs(35);

/// Time that a server may serve without being ready. The chart's own probe needs less for its delay
/// and one period.
const UNREADY: Duration = Duration::from_secs(30);

/// Time that the first pod may be alone and not ready. The second pod starts only after it.
const ALONE: Duration = Duration::from_secs(20);

/// Time beyond a probe's own delay and period that a pod may take to become ready.
const MARGIN: Duration = Duration::from_secs(15);

/// Interval between observations: long, because these states are rare.
const INTERVAL: Duration = Duration::from_secs(2);

/// A deadline that no trial reaches. The other branch of the select has the real deadline.
const NEVER: Duration = Duration::from_secs(86_400);

/// A state of the servers that waiting does not end, once it has lasted for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastingState {
    /// Every server knows only itself. Normal until the hooks have ended, and permanent afterwards.
    Unformed,
    /// Every server knows only itself, while hooks run.
    StillUnformed,
    /// A replica has no password for its primary, which requires one.
    UnableToSync,
    /// A replica offers its primary a password that is not the primary's.
    WrongPrimaryPassword,
    /// A server refuses every password that it could have.
    Locked,
    /// A server refuses every password that it could have, while hooks run that may set it.
    StillLocked,
    /// A server announces an address that no pod of the release has.
    WrongAddress,
    /// Pods start one after the other, and the first cannot become ready before the others exist.
    OneAtATime,
    /// Every promise holds, but a pod is not ready, because its probe requires something else.
    NeverReady,
}

impl LastingState {
    /// Returns the time that the state must last before it counts. `delay` is the latest time from
    /// a server's start to readiness.
    fn lasting(self, delay: Duration) -> Duration {
        match self {
            Self::StillUnformed | Self::StillLocked | Self::WrongAddress => LASTING_DURING_HOOK,
            Self::NeverReady => UNREADY.max(delay + MARGIN),
            Self::OneAtATime => ALONE.max(delay + MARGIN),
            Self::Unformed | Self::UnableToSync | Self::WrongPrimaryPassword | Self::Locked => LASTING,
        }
    }

    /// Returns true if servers serve in this state, and only replicas do not follow.
    pub(super) fn is_of_replication(self) -> bool {
        matches!(self, Self::UnableToSync | Self::WrongPrimaryPassword)
    }

    fn holds(self, seen: &ClusterObservation) -> bool {
        match self {
            Self::Unformed | Self::StillUnformed => seen.is_unformed(),
            Self::UnableToSync => seen.answered().any(|(_, view)| view.is_locked_out()),
            Self::WrongPrimaryPassword => seen.answered().any(|(_, view)| offers_wrong_password(view)),
            Self::Locked | Self::StillLocked => {
                let mut refusals = seen.views.values().filter_map(|view| view.as_ref().err());
                refusals.any(|error| error.kind == ViewErrorKind::Authentication)
            }
            Self::WrongAddress => announces_what_no_pod_has(seen),
            Self::OneAtATime => is_alone(seen),
            Self::NeverReady => {
                let broken = checks::run(seen);
                !broken.is_empty() && broken.iter().all(|violation| violation.check == readiness::NAME)
            }
        }
    }
}

impl fmt::Display for LastingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Unformed | Self::StillUnformed => "no server has known any other",
            Self::UnableToSync => "a replica has had no password for its primary",
            Self::WrongPrimaryPassword => "a replica has offered its primary a wrong password",
            Self::Locked | Self::StillLocked => "a server has refused the release's password",
            Self::WrongAddress => "a server has announced an address that no pod has",
            Self::OneAtATime => "the first pod has waited alone, not ready",
            Self::NeverReady => "a pod that serves has not been ready",
        };
        write!(f, "{what}")
    }
}

/// States that count once the hooks have ended.
pub(super) const AFTER_HOOKS: [LastingState; 5] = [
    LastingState::Unformed,
    LastingState::UnableToSync,
    LastingState::Locked,
    LastingState::OneAtATime,
    LastingState::NeverReady,
];

/// States that count while an installation's hooks run, because the hooks would wait in vain.
pub(super) const WHILE_HOOKS_RUN: [LastingState; 6] = [
    LastingState::StillUnformed,
    LastingState::UnableToSync,
    LastingState::WrongPrimaryPassword,
    LastingState::StillLocked,
    LastingState::WrongAddress,
    LastingState::OneAtATime,
];

/// Resolves when the servers have been in one of `states` for long enough, with every broken
/// promise; otherwise pends forever. `delay` is the latest time from a server's start to readiness.
/// Time in which the cluster is busy does not count. Meant for `select!`, next to a wait that could
/// be in vain.
pub(super) async fn watch(
    observer: &Observer,
    states: &[LastingState],
    pauses: DeadlinePauses,
    delay: Duration,
) -> TrialError {
    let since: Mutex<Vec<Option<Instant>>> = Mutex::new(vec![None; states.len()]);
    let never = Expectation::new("the servers", "to reach a terminal state", NEVER);
    let lasting = wait::poll(never, INTERVAL, || async {
        let seen = observer.observe().await.ok();
        let mut since = since.lock().expect("no code panics while it holds the moments");
        for (state, since) in states.iter().zip(since.iter_mut()) {
            let Some(seen) = seen.as_ref().filter(|seen| state.holds(seen)) else {
                *since = None;
                continue;
            };
            let since = *since.get_or_insert_with(Instant::now);
            if since.elapsed().saturating_sub(pauses.excused(since)) >= state.lasting(delay) {
                return Verdict::Ready((*state, checks::run(seen)));
            }
        }
        Verdict::NotYet("not in a terminal state".to_owned())
    });
    match lasting.await {
        Ok((state, violations)) => TrialError::Unhealthy {
            when: When::Lasting(state, state.lasting(delay)),
            violations,
        },
        Err(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::LastingState::{
        Locked, NeverReady, OneAtATime, StillLocked, StillUnformed, UnableToSync, Unformed, WrongAddress,
        WrongPrimaryPassword,
    };
    use super::*;
    use crate::checks::fixture::Fixture;
    use crate::valkey::view::ViewError;

    const ALL: [LastingState; 9] = [
        Unformed,
        StillUnformed,
        UnableToSync,
        WrongPrimaryPassword,
        Locked,
        StillLocked,
        WrongAddress,
        OneAtATime,
        NeverReady,
    ];

    fn states(seen: &ClusterObservation) -> Vec<LastingState> {
        ALL.into_iter().filter(|state| state.holds(seen)).collect()
    }

    #[test]
    fn a_healthy_release_is_in_no_such_state() {
        for healthy in [Fixture::cluster(6, 1), Fixture::standalone()] {
            assert_eq!(states(&healthy.observation()), []);
        }
    }

    #[test]
    fn servers_that_know_only_themselves_are_unformed() {
        let seen = Fixture::unformed(6).observation();
        assert_eq!(states(&seen), [Unformed, StillUnformed]);
    }

    #[test]
    fn a_wrong_or_missing_password_counts_while_the_link_is_down() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.stale_primary_auth.insert("valkey-4".to_owned());
        fixture.primary_auth_set.insert("valkey-5".to_owned(), false);
        assert_eq!(states(&fixture.observation()), []);
        fixture.edit_info("valkey-4", "master_link_status:up", "master_link_status:down");
        assert_eq!(states(&fixture.observation()), [WrongPrimaryPassword]);
        fixture.edit_info("valkey-5", "master_link_status:up", "master_link_status:down");
        assert_eq!(
            states(&fixture.observation()),
            [UnableToSync, WrongPrimaryPassword]
        );
    }

    #[test]
    fn a_server_that_refuses_the_password_is_locked() {
        let mut seen = Fixture::cluster(6, 1).observation();
        let mut with_error = |kind| {
            let message = "no view".to_owned();
            let error = ViewError { kind, message };
            seen.views.insert("valkey-4".to_owned(), Err(error));
            states(&seen)
        };
        assert_eq!(with_error(ViewErrorKind::Unreachable), []);
        assert_eq!(with_error(ViewErrorKind::Authentication), [Locked, StillLocked]);
    }

    /// The address of a load balancer is no pod's either, and right as long as the cluster works.
    #[test]
    fn an_address_that_no_pod_has_is_wrong_in_a_failed_cluster_only() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit("valkey-1", ".11:6379@16379 myself", ".99:6379@16379 myself");
        assert!(!WrongAddress.holds(&fixture.observation()));
        fixture.edit_cluster_info("valkey-1", "cluster_state:ok", "cluster_state:fail");
        assert!(WrongAddress.holds(&fixture.observation()));
        fixture.pods[2].ip = None;
        let seen = fixture.observation();
        assert!(!WrongAddress.holds(&seen), "that pod may get the address");
    }

    #[test]
    fn a_first_pod_is_alone_until_it_is_ready_or_has_a_sibling() {
        let mut fixture = Fixture::unformed(6);
        let mut seen = fixture.observation();
        seen.pods.truncate(1);
        seen.views.retain(|pod, _| pod == "valkey-0");
        assert!(OneAtATime.holds(&seen));
        seen.pods[0].ready = true;
        assert!(!OneAtATime.holds(&seen));
        fixture.pods.truncate(2);
        let seen = fixture.observation();
        assert!(!OneAtATime.holds(&seen), "pods start side by side");
    }

    #[test]
    fn a_pod_is_never_ready_only_if_nothing_else_is_broken() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.pods[4].ready = false;
        assert_eq!(states(&fixture.observation()), [NeverReady]);
        fixture.edit_info("valkey-4", "master_link_status:up", "master_link_status:down");
        assert_eq!(states(&fixture.observation()), []);
    }
}
