//! What Helm does, for whatever manifests it is given: install, upgrade, test and uninstall, with hooks in weight order
//! and their delete policies. Claims made by StatefulSets are left behind, as Helm leaves them.
//!
//! | module | what is in it |
//! |---|---|
//! | [`bundle`] | manifests, sorted into resources and hooks by their annotations |
//! | [`order`] | the order in which Helm creates kinds and runs hooks |
//! | `apply` | server-side apply, deletion, and what exists already |
//! | `hooks` | running the hooks of one event |
//! | [`follow`] | a hook's output, read while it runs: Helm deletes the Job when it succeeds |
//! | [`error`] | why a verb failed |
//!
//! What Helm's own storage does (revision Secrets, history, rollback) is not here. Patches are server-side apply, as
//! Helm 4 does by default: the API server merges what the release says with what others have set, and takes away what a
//! new revision no longer says. That is the three-way merge, without a second copy of its rules.

mod apply;
pub mod bundle;
pub mod error;
pub mod follow;
mod hooks;
pub mod order;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

pub use bundle::{Bundle, Hook, HookEvent, Object};
pub use error::ReleaseError;
pub use follow::HookOutput;

use crate::timeline::{Kind, Timeline};
use crate::wait::{self, Expectation, Verdict, WaitError, conditions, doom};

/// Helm's own default for how long one hook may take.
pub const HELM_TIMEOUT: Duration = Duration::from_secs(300);

/// A time that no trial reaches: the other branch of the `select!` has the deadline.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// One release in one namespace.
pub struct Release {
    client: Client,
    namespace: String,
    name: String,
    timeline: Timeline,
    timeout: Duration,
    deployed: Bundle,
}

impl Release {
    /// A release that has nothing deployed yet. `timeout` bounds each hook and each wait, as `helm --timeout` does.
    pub fn new(client: Client, namespace: &str, name: &str, timeline: Timeline, timeout: Duration) -> Self {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self {
            client,
            namespace,
            name,
            timeline,
            timeout,
            deployed: Bundle::default(),
        }
    }

    /// The release's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace it is deployed in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What is deployed.
    pub fn deployed(&self) -> &Bundle {
        &self.deployed
    }

    /// `helm install`: pre-install hooks, resources, post-install hooks. Refuses to adopt an object that exists.
    pub async fn install(&mut self, bundle: Bundle) -> Result<Vec<HookOutput>, ReleaseError> {
        bundle.stays_in(&self.namespace)?;
        for object in &bundle.resources {
            apply::refuse_existing(&self.client, &self.namespace, object).await?;
        }
        self.deployed = bundle;
        let mut outputs = self.run_hooks(HookEvent::PreInstall).await?;
        self.apply_all().await?;
        outputs.extend(self.run_hooks(HookEvent::PostInstall).await?);
        Ok(outputs)
    }

    /// `helm upgrade`: pre-upgrade hooks, changed and new resources, deletion of those that are no longer there,
    /// post-upgrade hooks.
    pub async fn upgrade(&mut self, bundle: Bundle) -> Result<Vec<HookOutput>, ReleaseError> {
        bundle.stays_in(&self.namespace)?;
        let before = std::mem::replace(&mut self.deployed, bundle);
        let mut outputs = self.run_hooks(HookEvent::PreUpgrade).await?;
        self.apply_all().await?;
        for gone in before
            .resources
            .iter()
            .filter(|object| self.deployed.find(object).is_none())
        {
            if !gone.is_kept() {
                self.delete(gone).await?;
            }
        }
        outputs.extend(self.run_hooks(HookEvent::PostUpgrade).await?);
        Ok(outputs)
    }

    /// `helm test`: the test hooks.
    pub async fn test(&self) -> Result<Vec<HookOutput>, ReleaseError> {
        self.run_hooks(HookEvent::Test).await
    }

    /// Runs the hooks of one event again, as the next install or upgrade would.
    pub async fn run_hooks(&self, event: HookEvent) -> Result<Vec<HookOutput>, ReleaseError> {
        let mut outputs = Vec::new();
        let hooks = order::hooks_of(&self.deployed.hooks, event);
        for hook in &hooks {
            let run = hooks::run(self, hook, event);
            let output = tokio::select! {
                biased;
                output = run => output?,
                doomed = self.doomed() => return Err(doomed),
            };
            outputs.push(output);
        }
        // Helm deletes the hooks that succeeded only after all hooks of the event did.
        for hook in hooks.iter().filter(|hook| hook.delete.on_success) {
            self.delete(&hook.object).await?;
        }
        Ok(outputs)
    }

    /// `helm uninstall`: resources in reverse order, hooks around them. Claims and failed hook Jobs stay.
    pub async fn uninstall(self) -> Result<(), ReleaseError> {
        self.run_hooks(HookEvent::PreDelete).await?;
        for object in order::uninstall(&self.deployed.resources) {
            if !object.is_kept() {
                self.delete(object).await?;
            }
        }
        self.run_hooks(HookEvent::PostDelete).await?;
        Ok(())
    }

    /// Resolves when a pod of the release (not of its hooks) gets into a state that does not heal, or when admission
    /// refuses one; pends for ever otherwise. For `select!` beside something that would wait in vain.
    pub async fn doomed(&self) -> ReleaseError {
        tokio::select! {
            doomed = self.pod_doomed() => doomed,
            refused = self.pod_refused() => refused,
        }
    }

    async fn pod_doomed(&self) -> ReleaseError {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().labels(&format!("app.kubernetes.io/instance={}", self.name));
        let what = Expectation::new("the release's pods", "to be doomed", FOR_EVER);
        let seen = wait::objects(&pods, config, what, |pods| {
            let doomed = pods.values().filter(|pod| !is_hook_pod(pod));
            let found = doomed
                .filter_map(|pod| Some((pod.clone(), conditions::doom(pod)?)))
                .next();
            found.map_or_else(|| Verdict::NotYet("none".to_owned()), Verdict::Ready)
        });
        match seen.await {
            Ok((pod, reason)) => {
                self.timeline
                    .record(Kind::Note, pod.name_any(), format!("will not run: {reason}"));
                let log = follow::last_lines(&pods, &pod).await;
                ReleaseError::PodDoomed { reason, log }
            }
            Err(source) => unwatched("watch the release's pods", source),
        }
    }

    async fn pod_refused(&self) -> ReleaseError {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let what = Expectation::new("the release's pods", "to be refused", FOR_EVER);
        let seen = wait::objects(&events, watcher::Config::default(), what, |events| {
            let refused = events.values().find_map(doom::refusal);
            refused.map_or_else(|| Verdict::NotYet("none".to_owned()), Verdict::Ready)
        });
        match seen.await {
            Ok(reason) => ReleaseError::PodDoomed {
                reason,
                log: Vec::new(),
            },
            Err(source) => unwatched("watch the release's events", source),
        }
    }

    async fn apply_all(&self) -> Result<(), ReleaseError> {
        for object in order::install(&self.deployed.resources) {
            apply::apply(&self.client, &self.namespace, object).await?;
        }
        Ok(())
    }

    async fn delete(&self, object: &Object) -> Result<(), ReleaseError> {
        apply::delete(&self.client, &self.namespace, object).await
    }
}

fn unwatched(what: &str, source: WaitError) -> ReleaseError {
    ReleaseError::Wait {
        what: what.to_owned(),
        source: Box::new(source),
    }
}

/// Whether the pod belongs to a hook, whose own wait judges it: a Job restarts its pod a few times before it gives up.
pub fn is_hook_pod(pod: &Pod) -> bool {
    let of_job = pod.owner_references().iter().any(|owner| owner.kind == "Job");
    of_job || pod.annotations().contains_key(bundle::HOOK_ANNOTATION)
}
