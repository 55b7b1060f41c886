//! States that do not heal, recognised while a verb waits: pods that will not run, probes that cannot, names that nobody
//! gets, objects that nobody makes. What the servers themselves say is not here: the trial looks at that.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};

use super::bundle::{self, HookEvent};
use super::error::ReleaseError;
use super::{Release, follow};
use crate::timeline::Kind;
use crate::wait::{self, Expectation, Verdict, conditions, doom};

/// A time that no trial reaches: whoever waits beside this has the deadline.
const NEVER: Duration = Duration::from_secs(86_400);

/// How long hooks may take where no cluster can be formed of what is rendered, besides the time in which pods can become
/// ready: as long as the largest of our own formations.
const UNFORMED: Duration = Duration::from_secs(20);

impl Release {
    /// Resolves when a pod of the release gets into a state that does not heal, or when admission refuses one; pends for ever
    /// otherwise. A hook's pod may crash: its Job starts it a few times more. For `select!` beside something that would
    /// wait in vain.
    pub async fn doomed(&self) -> ReleaseError {
        tokio::select! {
            doomed = self.pod_doomed() => doomed,
            doomed = self.event_of_doom("reason=Unhealthy", conditions::probe_without_program) => doomed,
            killed = self.event_of_doom("reason=Killing", doom::never_started) => killed,
            refused = self.event_of_doom("", |event| doom::refusal(event).or_else(|| self.missing(event))) => refused,
        }
    }

    /// Something that an event says is missing, and that the release does not have either: nobody will make it.
    fn missing(&self, event: &Event) -> Option<String> {
        let missing = doom::missing(event)?;
        let is_ours = self.deployed.has(missing.kind, &missing.name);
        (!is_ours).then(|| missing.to_string())
    }

    async fn pod_doomed(&self) -> ReleaseError {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().labels(&format!("app.kubernetes.io/instance={}", self.name));
        let what = Expectation::new("the release's pods", "to be doomed", NEVER);
        let seen = wait::objects(&pods, config, what, |pods| {
            let doom = |pod: &Pod| match is_hook_pod(pod) {
                true => conditions::doom_of_hook(pod),
                false => conditions::doom(pod),
            };
            let found = pods.values().find_map(|pod| Some((pod.clone(), doom(pod)?)));
            found.map_or_else(|| Verdict::NotYet("none".to_owned()), Verdict::Ready)
        });
        match seen.await {
            Ok((pod, reason)) => {
                self.timeline
                    .record(Kind::Note, pod.name_any(), format!("will not run: {reason}"));
                let log = follow::last_lines(&pods, &pod).await;
                ReleaseError::PodDoomed { reason, log }
            }
            Err(source) => ReleaseError::Wait {
                what: "watch the release's pods".to_owned(),
                source: Box::new(source),
            },
        }
    }

    /// Resolves when an event among those that `fields` selects tells of something that does not heal, in the words of
    /// `verdict`: a probe whose program the image does not have, a pod that admission refuses, an object that pods need and nobody makes.
    async fn event_of_doom(&self, fields: &str, verdict: impl Fn(&Event) -> Option<String>) -> ReleaseError {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = match fields {
            "" => watcher::Config::default(),
            fields => watcher::Config::default().fields(fields),
        };
        let what = Expectation::new("the release's events", "to tell of doom", NEVER);
        let seen = wait::objects(&events, config, what, |events| {
            let found = events.values().find_map(&verdict);
            found.map_or_else(|| Verdict::NotYet("none".to_owned()), Verdict::Ready)
        });
        match seen.await {
            Ok(reason) => ReleaseError::PodDoomed {
                reason,
                log: Vec::new(),
            },
            Err(source) => ReleaseError::Wait {
                what: "watch the release's events".to_owned(),
                source: Box::new(source),
            },
        }
    }

    /// Resolves when the hooks of an installation cannot form a cluster of what is rendered; pends for ever otherwise.
    pub(super) async fn cannot_be_formed(&self, event: HookEvent) -> ReleaseError {
        let of_installation = matches!(event, HookEvent::PreInstall | HookEvent::PostInstall);
        let Some(why) = self.deployed.cannot_be_formed().filter(|_| of_installation) else {
            return std::future::pending().await;
        };
        // Not at once: pods whose readiness does not depend on the cluster get their names in this time, and a chart may
        // have other ways.
        let patience = UNFORMED + self.deployed.readiness_delay();
        let what = Expectation::new(format!("{} hooks", event.name()), "to end", patience);
        let waited: Result<(), _> =
            wait::poll(what, patience, || async { Verdict::NotYet(why.clone()) }).await;
        match waited {
            Err(_) => ReleaseError::Unformable(why),
            Ok(()) => std::future::pending().await,
        }
    }
}

/// Whether the pod belongs to a hook, whose own wait judges it: a Job restarts its pod a few times before it gives up.
pub fn is_hook_pod(pod: &Pod) -> bool {
    let of_job = pod.owner_references().iter().any(|owner| owner.kind == "Job");
    of_job || pod.annotations().contains_key(bundle::HOOK_ANNOTATION)
}
