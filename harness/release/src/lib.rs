//! Helm's work, for any manifests: install, upgrade, rollback, test and uninstall. Hooks run in
//! weight order with their delete policies. Claims of StatefulSets stay, as with Helm.
//!
//! | module | what is in it |
//! |---|---|
//! | [`bundle`] | manifests, sorted into resources and hooks by their annotations |
//! | [`object`] | one object of any kind, with its API |
//! | [`order`] | the order in which Helm creates kinds and runs hooks |
//! | `apply` | server-side apply, deletion, and the check for existing objects |
//! | `terminal_states` | terminal states of pods and names, detected while a verb waits |
//! | `names` | reasons why no cluster can be formed of the rendered objects |
//! | `hooks` | running the hooks of one event |
//! | [`follow`] | a hook's output, read while it runs: Helm deletes the Job when it succeeds |
//! | [`subject`] | the subject under test: the source of manifests, and their deployment |
//! | [`generated`] | our own manifests as the subject |
//! | [`chart`] | a chart on disk as the subject, through the `helm` program |
//! | [`immutable`] | immutable fields that an upgrade changes |
//! | `rendered` | the expected deployment, read from the rendered objects |
//! | `refusal` | refusals of the API server or `helm` |
//! | [`error`] | reasons why a verb failed |
//!
//! Helm's own storage (revision Secrets, history) is not implemented. Patches are server-side
//! apply, as Helm 4 does by default. The API server merges the release's fields with those of
//! others, and removes fields that a new revision lacks. That replaces the three-way merge, without
//! a second copy of its rules.

mod apply;
pub mod bundle;
pub mod chart;
pub mod error;
pub mod follow;
pub mod generated;
mod hooks;
pub mod immutable;
mod names;
pub mod object;
pub mod order;
mod refusal;
mod rendered;
pub mod subject;
mod terminal_states;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;

pub use bundle::{Bundle, Hook, HookEvent};
pub use chart::{Chart, ChartError};
pub use error::ReleaseError;
pub use follow::HookOutput;
pub use generated::Generated;
pub use object::Object;
pub use refusal::Refusal;
pub use subject::{Rendering, Subject};
pub use terminal_states::is_hook_pod;

use timeline::Timeline;

/// Helm's default timeout of one hook.
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
    subject: Arc<dyn Subject>,
}

impl Release {
    /// Creates a release without a deployment. `timeout` bounds each hook and each wait, like `helm
    /// --timeout`.
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
            subject: Arc::new(Generated),
        }
    }

    /// Returns this release with `subject` as its deployer.
    #[must_use]
    pub fn of_subject(mut self, subject: Arc<dyn Subject>) -> Self {
        self.subject = subject;
        self
    }

    /// Changes the release's subject to another version of the same chart.
    pub fn set_subject(&mut self, subject: Arc<dyn Subject>) {
        self.subject = subject;
    }

    /// Returns the release's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the release's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the number of revisions so far.
    pub fn revision(&self) -> usize {
        self.history.len()
    }

    /// Returns true if the last revision changed the pod template of the servers. The pods are then
    /// replaced without a restart.
    pub fn replaces_pods(&self) -> bool {
        let template = |bundle: &Bundle| {
            let set = bundle.stateful_set()?;
            set.content.data.pointer("/spec/template").cloned()
        };
        match self.history.as_slice() {
            [.., before, last] => template(before) != template(last),
            _ => false,
        }
    }

    /// Returns the deployed bundle.
    pub fn deployed(&self) -> &Bundle {
        &self.deployed
    }

    /// Runs `helm install`: pre-install hooks, resources, post-install hooks. Refuses to adopt an
    /// existing object.
    pub async fn install(&mut self, bundle: Bundle) -> Result<Vec<HookOutput>, ReleaseError> {
        bundle.stays_in(&self.namespace)?;
        if !bundle.has_servers() {
            return Err(ReleaseError::NoServers);
        }
        self.revise(bundle);
        self.subject.install(self).await
    }

    /// Runs `helm upgrade`: pre-upgrade hooks, changed and new resources, deletion of removed ones,
    /// post-upgrade hooks.
    pub async fn upgrade(&mut self, bundle: Bundle) -> Result<Vec<HookOutput>, ReleaseError> {
        bundle.stays_in(&self.namespace)?;
        let before = self.revise(bundle);
        self.subject.upgrade(self, &before).await
    }

    /// Runs `helm rollback`: deploys an earlier revision again as a new one, with rollback hooks.
    /// Revisions are counted from 1.
    pub async fn rollback(&mut self, revision: u32) -> Result<Vec<HookOutput>, ReleaseError> {
        let index = usize::try_from(revision)
            .ok()
            .and_then(|number| number.checked_sub(1));
        let bundle = index.and_then(|index| self.history.get(index)).cloned();
        let bundle = bundle.ok_or(ReleaseError::Revision(revision))?;
        let before = self.revise(bundle);
        self.subject.roll_back(self, &before, revision).await
    }

    /// Runs `helm test`: the test hooks.
    pub async fn test(&self) -> Result<Vec<HookOutput>, ReleaseError> {
        self.subject.test(self).await
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
                state = self.terminal_state() => return Err(state),
                unformed = self.cannot_be_formed(event) => return Err(unformed),
            };
            outputs.push(output);
        }
        // Helm deletes succeeded hooks only after all hooks of the event have succeeded.
        for hook in hooks.iter().filter(|hook| hook.delete.on_success) {
            self.delete(&hook.object).await?;
        }
        Ok(outputs)
    }

    /// Runs `helm uninstall`: resources in reverse order, hooks around them. Claims and failed hook
    /// Jobs stay.
    pub async fn uninstall(self) -> Result<(), ReleaseError> {
        self.subject.uninstall(&self).await
    }

    /// Adds a new revision as the deployed one, and returns the previous bundle.
    fn revise(&mut self, bundle: Bundle) -> Bundle {
        self.history.push(bundle.clone());
        std::mem::replace(&mut self.deployed, bundle)
    }

    async fn delete(&self, object: &Object) -> Result<(), ReleaseError> {
        apply::delete(&self.client, &self.namespace, object).await
    }
}
