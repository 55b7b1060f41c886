//! What Helm does, for whatever manifests it is given: install, upgrade, rollback, test and uninstall, with hooks in weight order
//! and their delete policies. Claims made by StatefulSets are left behind, as Helm leaves them.
//!
//! | module | what is in it |
//! |---|---|
//! | [`bundle`] | manifests, sorted into resources and hooks by their annotations |
//! | [`object`] | one object of any kind, with how to reach its API |
//! | [`order`] | the order in which Helm creates kinds and runs hooks |
//! | `apply` | server-side apply, deletion, and what exists already |
//! | `doom` | states of pods and names that do not heal, recognised while a verb waits |
//! | `names` | why no cluster can be formed of what is rendered |
//! | `hooks` | running the hooks of one event |
//! | [`follow`] | a hook's output, read while it runs: Helm deletes the Job when it succeeds |
//! | [`chart`] | the same verbs for a chart on disk, through the `helm` program |
//! | [`error`] | why a verb failed |
//!
//! What Helm's own storage does (revision Secrets, history) is not here. Patches are server-side apply, as
//! Helm 4 does by default: the API server merges what the release says with what others have set, and takes away what a
//! new revision no longer says. That is the three-way merge, without a second copy of its rules.

mod apply;
pub mod bundle;
pub mod chart;
mod doom;
pub mod error;
pub mod follow;
mod hooks;
mod names;
pub mod object;
pub mod order;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;

pub use bundle::{Bundle, Hook, HookEvent};
pub use chart::{Chart, ChartError};
pub use doom::is_hook_pod;
pub use error::ReleaseError;
pub use follow::HookOutput;
pub use object::Object;

use crate::timeline::Timeline;

/// Helm's own default for how long one hook may take.
pub const HELM_TIMEOUT: Duration = Duration::from_secs(300);

/// One release in one namespace.
pub struct Release {
    client: Client,
    namespace: String,
    name: String,
    timeline: Timeline,
    timeout: Duration,
    deployed: Bundle,
    history: Vec<Bundle>,
    chart: Option<Arc<Chart>>,
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
            history: Vec::new(),
            chart: None,
        }
    }

    /// The same release, deployed by `helm` from a chart on disk.
    #[must_use]
    pub fn of_chart(mut self, chart: Option<Arc<Chart>>) -> Self {
        self.chart = chart;
        self
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
        if let Some(chart) = self.chart.clone() {
            if !bundle.has_servers() {
                return Err(ReleaseError::NoServers);
            }
            self.revise(bundle);
            return self
                .helm_deploy(&chart, [HookEvent::PreInstall, HookEvent::PostInstall])
                .await;
        }
        for object in &bundle.resources {
            apply::refuse_existing(&self.client, &self.namespace, object).await?;
        }
        self.revise(bundle);
        let mut outputs = self.run_hooks(HookEvent::PreInstall).await?;
        self.apply_all().await?;
        outputs.extend(self.run_hooks(HookEvent::PostInstall).await?);
        Ok(outputs)
    }

    /// `helm upgrade`: pre-upgrade hooks, changed and new resources, deletion of those that are no longer there,
    /// post-upgrade hooks.
    pub async fn upgrade(&mut self, bundle: Bundle) -> Result<Vec<HookOutput>, ReleaseError> {
        bundle.stays_in(&self.namespace)?;
        let events = [HookEvent::PreUpgrade, HookEvent::PostUpgrade];
        if let Some(chart) = self.chart.clone() {
            self.revise(bundle);
            return self.helm_deploy(&chart, events).await;
        }
        self.replace(bundle, events).await
    }

    /// `helm rollback`: what a revision deployed is deployed again, as a new revision, with the hooks of a rollback.
    /// Revisions are counted from 1.
    pub async fn rollback(&mut self, revision: u32) -> Result<Vec<HookOutput>, ReleaseError> {
        let index = usize::try_from(revision)
            .ok()
            .and_then(|number| number.checked_sub(1));
        let bundle = index.and_then(|index| self.history.get(index)).cloned();
        let bundle = bundle.ok_or(ReleaseError::Revision(revision))?;
        if let Some(chart) = self.chart.clone() {
            self.revise(bundle);
            return self.helm_rollback(&chart, revision).await;
        }
        self.replace(bundle, [HookEvent::PreRollback, HookEvent::PostRollback])
            .await
    }

    /// `helm test`: the test hooks.
    pub async fn test(&self) -> Result<Vec<HookOutput>, ReleaseError> {
        if let Some(chart) = &self.chart {
            return self.helm_test(chart).await;
        }
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
                unformed = self.cannot_be_formed(event) => return Err(unformed),
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
        if let Some(chart) = &self.chart {
            return self.helm_uninstall(chart).await;
        }
        self.run_hooks(HookEvent::PreDelete).await?;
        for object in order::uninstall(&self.deployed.resources) {
            if !object.is_kept() {
                self.delete(object).await?;
            }
        }
        self.run_hooks(HookEvent::PostDelete).await?;
        Ok(())
    }

    /// A new revision, which is what is deployed from now on.
    fn revise(&mut self, bundle: Bundle) -> Bundle {
        self.history.push(bundle.clone());
        std::mem::replace(&mut self.deployed, bundle)
    }

    async fn replace(
        &mut self,
        bundle: Bundle,
        [before, after]: [HookEvent; 2],
    ) -> Result<Vec<HookOutput>, ReleaseError> {
        let old = self.revise(bundle);
        let mut outputs = self.run_hooks(before).await?;
        self.apply_all().await?;
        let gone = old
            .resources
            .iter()
            .filter(|object| self.deployed.find(object).is_none());
        for object in gone.filter(|object| !object.is_kept()) {
            self.delete(object).await?;
        }
        outputs.extend(self.run_hooks(after).await?);
        Ok(outputs)
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
