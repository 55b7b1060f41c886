//! Terminal states, detected while a verb waits:
//! - pods that cannot run, and probes that cannot succeed,
//! - names that are never assigned, and objects that are never created.
//!
//! The trial itself checks the answers of the servers.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};

use super::bundle::{self, HookEvent};
use super::error::ReleaseError;
use super::{Release, follow};
use timeline::EntryKind;
use wait::terminal_state::TerminalState;
use wait::{self, Expectation, Verdict, conditions, terminal_state};

/// A time that no trial reaches: the deadline is up to the other waiter.
const NEVER: Duration = Duration::from_secs(86_400);

/// Time for hooks to end where no cluster can be formed, in addition to the pods' readiness delay.
/// It equals our own largest formation.
const UNFORMED: Duration = Duration::from_secs(20);

impl Release {
    /// Resolves when a pod of the release reaches a terminal state, or when admission refuses one.
    /// Otherwise stays pending. A hook's pod may crash, because its Job restarts it a few times.
    /// Meant for `select!` with a wait that would be in vain.
    pub async fn terminal_state(&self) -> ReleaseError {
        tokio::select! {
            state = self.terminal_pod() => state,
            state = self.terminal_event("reason=Unhealthy", terminal_state::probe_without_program) => state,
            killed = self.terminal_event("reason=Killing", terminal_state::never_started) => killed,
            refused = self.terminal_event("", |event| terminal_state::refusal(event).or_else(|| self.missing(event))) => refused,
        }
    }

    /// Returns the object that an event reports as missing, if the release lacks it too. Nothing
    /// will create it.
    fn missing(&self, event: &Event) -> Option<TerminalState> {
        let missing = terminal_state::missing(event)?;
        let is_ours = self.deployed.has(&missing.kind, &missing.name);
        (!is_ours).then_some(TerminalState::Missing(missing))
    }

    async fn terminal_pod(&self) -> ReleaseError {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().labels(&format!("app.kubernetes.io/instance={}", self.name));
        let what = Expectation::new("the release's pods", "to reach a terminal state", NEVER);
        let seen = wait::objects(&pods, config, what, |pods| {
            let state_of = |pod: &Pod| match is_hook_pod(pod) {
                true => conditions::terminal_state_of_hook_pod(pod),
                false => conditions::terminal_state(pod),
            };
            let found = pods.values().find_map(|pod| Some((pod.clone(), state_of(pod)?)));
            found.map_or_else(|| Verdict::NotYet("none".to_owned()), Verdict::Ready)
        });
        match seen.await {
            Ok((pod, state)) => {
                self.timeline
                    .record(EntryKind::Note, pod.name_any(), format!("cannot run: {state}"));
                let log = follow::last_lines(&pods, &pod).await;
                ReleaseError::Terminal {
                    state: Box::new(state),
                    log,
                }
            }
            Err(source) => ReleaseError::Wait {
                what: "watch the release's pods".to_owned(),
                source: Box::new(source),
            },
        }
    }

    /// Resolves when an event of the selection `fields` is terminal according to `verdict`.
    /// Examples are a probe without its program, a refused pod, and a missing object. Otherwise
    /// stays pending.
    async fn terminal_event(
        &self,
        fields: &str,
        verdict: impl Fn(&Event) -> Option<TerminalState>,
    ) -> ReleaseError {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = match fields {
            "" => watcher::Config::default(),
            fields => watcher::Config::default().fields(fields),
        };
        let what = Expectation::new("the release's events", "to show a terminal state", NEVER);
        let seen = wait::objects(&events, config, what, |events| {
            let found = events.values().find_map(&verdict);
            found.map_or_else(|| Verdict::NotYet("none".to_owned()), Verdict::Ready)
        });
        match seen.await {
            Ok(state) => ReleaseError::Terminal {
                state: Box::new(state),
                log: Vec::new(),
            },
            Err(source) => ReleaseError::Wait {
                what: "watch the release's events".to_owned(),
                source: Box::new(source),
            },
        }
    }

    /// Resolves when the hooks of an installation cannot form a cluster. Otherwise stays pending.
    pub(super) async fn cannot_be_formed(&self, event: HookEvent) -> ReleaseError {
        let of_installation = matches!(event, HookEvent::PreInstall | HookEvent::PostInstall);
        let Some(why) = self.deployed.cannot_be_formed().filter(|_| of_installation) else {
            return std::future::pending().await;
        };
        // Waits a while: a pod with a readiness probe that needs no cluster gets its name in this
        // time. A chart may also have other ways.
        let deadline = UNFORMED + self.deployed.readiness_delay();
        let what = Expectation::new(format!("{} hooks", event.name()), "to end", deadline);
        let waited: Result<(), _> =
            wait::poll(what, deadline, || async { Verdict::NotYet(why.clone()) }).await;
        match waited {
            Err(_) => ReleaseError::Unformable(why),
            Ok(()) => std::future::pending().await,
        }
    }
}

/// Returns true if the pod belongs to a hook. The hook's own wait judges it, because a Job restarts
/// its pod a few times.
pub fn is_hook_pod(pod: &Pod) -> bool {
    let of_job = pod.owner_references().iter().any(|owner| owner.kind == "Job");
    of_job || pod.annotations().contains_key(bundle::HOOK_ANNOTATION)
}
