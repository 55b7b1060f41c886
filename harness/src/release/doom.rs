//! States that do not heal, recognised while a verb waits: pods that will not run, probes that cannot, names that nobody
//! gets. What the servers themselves say is not here: the trial looks at that.

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

/// How long hooks may take where a headless Service hides the pods that are not ready yet, besides the time in which pods
/// can become ready: as long as the largest of our own formations.
const HIDDEN_NAMES: Duration = Duration::from_secs(20);

impl Release {
    /// Resolves when a pod of the release gets into a state that does not heal, or when admission refuses one; pends for ever
    /// otherwise. A hook's pod may crash: its Job starts it a few times more. For `select!` beside something that would
    /// wait in vain.
    pub async fn doomed(&self) -> ReleaseError {
        tokio::select! {
            doomed = self.pod_doomed() => doomed,
            doomed = self.event_of_doom("reason=Unhealthy", conditions::probe_without_program) => doomed,
            refused = self.event_of_doom("", doom::refusal) => refused,
        }
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
    /// `verdict`: a probe whose program the image does not have, a pod that admission refuses.
    async fn event_of_doom(&self, fields: &str, verdict: fn(&Event) -> Option<String>) -> ReleaseError {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = match fields {
            "" => watcher::Config::default(),
            fields => watcher::Config::default().fields(fields),
        };
        let what = Expectation::new("the release's events", "to tell of doom", NEVER);
        let seen = wait::objects(&events, config, what, |events| {
            let found = events.values().find_map(verdict);
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

    /// Resolves when hooks that come before the pods are ready look for names that are only given to ready ones; pends for
    /// ever otherwise.
    pub(super) async fn names_stay_hidden(&self, event: HookEvent) -> ReleaseError {
        let Some(service) = self
            .deployed
            .hides_unready_pods()
            .filter(|_| event == HookEvent::PostInstall)
        else {
            return std::future::pending().await;
        };
        // Not at once: pods whose readiness does not depend on the cluster get their names in this time.
        let patience = HIDDEN_NAMES + self.deployed.readiness_delay();
        let what = Expectation::new(format!("{} hooks", event.name()), "to end", patience);
        let waited: Result<(), _> = wait::poll(what, patience, || async {
            Verdict::NotYet(format!("Service {service} names only pods that are ready"))
        })
        .await;
        match waited {
            Err(source) => ReleaseError::Wait {
                what: format!(
                    "form a cluster of pods without names: the headless Service {service} has publishNotReadyAddresses false"
                ),
                source: Box::new(source),
            },
            Ok(()) => std::future::pending().await,
        }
    }
}

/// Whether the pod belongs to a hook, whose own wait judges it: a Job restarts its pod a few times before it gives up.
pub fn is_hook_pod(pod: &Pod) -> bool {
    let of_job = pod.owner_references().iter().any(|owner| owner.kind == "Job");
    of_job || pod.annotations().contains_key(bundle::HOOK_ANNOTATION)
}
