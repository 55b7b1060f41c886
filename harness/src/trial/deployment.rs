//! The release of a trial: installed, upgraded, rolled back and inspected.

use std::collections::BTreeMap;
use std::sync::Arc;

use manifests::Values;

use super::context::{Context, RELEASE_NAME};
use super::error::TrialError;
use super::history::Past;
use super::passwords;
use super::terminal_servers::{self, WHILE_HOOKS_RUN};
use crate::checks::Violation;
use crate::release::immutable::{self, ImmutableChange};
use crate::release::{Bundle, HookEvent, HookOutput, Release, ReleaseError, Rendering, Subject};
use crate::secret::Passwords;

/// The release of one trial.
#[derive(Default)]
pub struct Deployment {
    release: Option<Release>,
    values: Option<Values>,
    /// The output of the hooks of the last act, if all of them succeeded.
    hook_outputs: Vec<HookOutput>,
    pub(super) past: Past,
    /// The state of the release in which clients last connected successfully.
    pub(super) clients_connected: Option<String>,
}

impl Deployment {
    /// Returns the release, once it is installed.
    pub fn release(&self) -> Option<&Release> {
        self.release.as_ref()
    }

    /// Returns the installed values. If the chart lacks a parameter, its rendering corrects the
    /// value.
    pub fn values(&self) -> Result<&Values, TrialError> {
        self.values.as_ref().ok_or(TrialError::NotInstalled)
    }

    /// Returns the hooks' output of the last installation, upgrade or rollback, if every hook
    /// succeeded.
    pub fn hook_outputs(&self) -> &[HookOutput] {
        &self.hook_outputs
    }

    /// Returns the pods that scaling has removed from the cluster, by node ID.
    pub fn removed_pods(&self) -> &BTreeMap<String, String> {
        self.past.removed_pods()
    }

    /// Stores the output of hooks that succeeded. For a failed hook, the error contains the output.
    fn note_hooks<E>(&mut self, ran: &Result<Vec<HookOutput>, E>) {
        self.hook_outputs = ran.as_ref().ok().cloned().unwrap_or_default();
    }
}

impl Context {
    /// Sets the version of the subject that the trial deploys from now on.
    pub fn set_subject(&mut self, subject: Arc<dyn Subject>) {
        if let Some(release) = &mut self.deployment.release {
            release.set_subject(subject.clone());
        }
        self.environment.subject = subject;
    }

    /// Renders the chart and installs it, hooks included. Passes the trial's password as the README
    /// does.
    pub async fn install(&mut self, values: Values) -> Result<Vec<HookOutput>, TrialError> {
        let values = self.with_password(values);
        self.install_as_given(values).await
    }

    /// Installs `values` unchanged, unlike [`install`](Self::install). Without a password in
    /// `values`, a subject that makes passwords makes one.
    pub async fn install_as_given(&mut self, values: Values) -> Result<Vec<HookOutput>, TrialError> {
        self.bring_secret(&values).await?;
        let bundle = Box::pin(self.bundle_as_given(&values)).await?;
        Box::pin(self.install_bundle(values, bundle)).await
    }

    /// Installs manifests that differ from the rendering of `values`. Tests of the checks break a
    /// deployment this way.
    pub async fn install_bundle(
        &mut self,
        values: Values,
        bundle: Bundle,
    ) -> Result<Vec<HookOutput>, TrialError> {
        if let Some(password) = passwords::given(&values) {
            self.credentials.keep_out(&password);
            self.credentials.passwords.prefer(password);
        }
        let deadline = self.environment.deadlines.hook;
        let release = Release::new(
            self.client(),
            self.namespace(),
            RELEASE_NAME,
            self.timeline().clone(),
            deadline,
        );
        // Manifests that no chart rendered are deployed without a chart.
        let release = release.of_subject(self.environment.subject.clone());
        if !values.auth.enabled {
            self.credentials.passwords = Passwords::default();
        }
        let combination = self.values();
        self.recorder.values(&combination, &values);
        let values = self.environment.subject.expected(&values, &bundle);
        let observer = self.observer(&values);
        let (pauses, delay) = (self.timeline().deadline_pauses(), bundle.readiness_delay());
        self.deployment.values = Some(values);
        let installed = Box::pin(self.deployment.release.insert(release).install(bundle));
        let installed = async {
            tokio::select! {
                biased;
                installed = installed => installed.map_err(TrialError::from),
                terminal = terminal_servers::watch(&observer, &WHILE_HOOKS_RUN, pauses, delay) => Err(terminal),
            }
        };
        let installed = self.recorder.steps.run("install", installed).await;
        self.deployment.note_hooks(&installed);
        installed
    }

    /// Renders the objects of our own manifests for this trial's release.
    pub fn render(&self, values: &Values) -> Result<Bundle, TrialError> {
        let release = self.naming().with_password(self.credentials.generated.clone());
        let rendered = manifests::render(&release, values)?;
        Ok(Bundle::from_manifests(&rendered)?)
    }

    /// Returns Helm's facts about the release.
    pub(super) fn naming(&self) -> manifests::Release {
        manifests::Release::install(RELEASE_NAME, self.namespace())
    }

    /// Adds the trial's password to `values` if the subject would otherwise generate one.
    pub(super) fn with_password(&self, mut values: Values) -> Values {
        if self.environment.subject.makes_passwords() && values.needs_password() {
            let password = self.credentials.current();
            password.expose().clone_into(&mut values.auth.password);
        }
        values
    }

    /// Renders `values`, with the trial's password for a subject that makes none.
    pub(super) async fn bundle_as_given(&self, values: &Values) -> Result<Bundle, TrialError> {
        let naming = self.naming().with_password(self.credentials.generated.clone());
        self.rendered(&naming, values).await
    }

    /// Renders `values` for this revision of the release.
    pub(super) async fn rendered(
        &self,
        release: &manifests::Release,
        values: &Values,
    ) -> Result<Bundle, TrialError> {
        let defaults = self.defaults();
        let wanted = values;
        let what = Rendering {
            release,
            defaults: &defaults,
            wanted,
        };
        Ok(self.environment.subject.render(what).await?)
    }

    /// Renders the chart again and upgrades the release, hooks included. Passes the password again,
    /// as the README's steps do.
    pub async fn upgrade(&mut self, values: Values) -> Result<Vec<HookOutput>, TrialError> {
        let values = self.with_password(values);
        self.upgrade_as_given(values).await
    }

    /// Upgrades to `values` unchanged, unlike [`upgrade`](Self::upgrade), even if they have no
    /// password.
    pub async fn upgrade_as_given(&mut self, values: Values) -> Result<Vec<HookOutput>, TrialError> {
        let bundle = Box::pin(self.render_upgrade(&values)).await?;
        Box::pin(self.upgrade_bundle(values, bundle)).await
    }

    /// Upgrades to manifests that differ from the rendering of `values`.
    pub async fn upgrade_bundle(
        &mut self,
        values: Values,
        bundle: Bundle,
    ) -> Result<Vec<HookOutput>, TrialError> {
        if let Some(password) = passwords::given(&values) {
            self.credentials.keep_out(&password);
            self.credentials.passwords.add(password);
        }
        let expected = self.environment.subject.expected(&values, &bundle);
        let before = self
            .deployment
            .release
            .as_ref()
            .map(|release| release.deployed().clone());
        let fixed = before.map(|before| immutable::changes(&before, &bundle));
        let release = self.deployment.release.as_mut().ok_or(TrialError::NotInstalled)?;
        let upgraded = Box::pin(release.upgrade(bundle));
        let upgraded = self.recorder.steps.run("upgrade", upgraded).await;
        self.deployment.note_hooks(&upgraded);
        let combination = self.values();
        self.recorder.values(&combination, &values);
        self.deployment.values = Some(expected);
        upgraded.map_err(|error| refused_upgrade(error, &fixed.unwrap_or_default()))
    }

    /// Runs `helm test`.
    pub async fn helm_test(&mut self) -> Result<Vec<HookOutput>, TrialError> {
        let release = self.deployment.release.as_ref().ok_or(TrialError::NotInstalled)?;
        Ok(self.recorder.steps.run("helm test", release.test()).await?)
    }

    /// Runs `helm rollback` to a revision with the given `values`.
    pub async fn rollback(&mut self, revision: u32, values: Values) -> Result<Vec<HookOutput>, TrialError> {
        let release = self.deployment.release.as_mut().ok_or(TrialError::NotInstalled)?;
        let name = format!("roll back to revision {revision}");
        let rolled_back = Box::pin(release.rollback(revision));
        let rolled_back = self.recorder.steps.run(name, rolled_back).await;
        let expected = self.environment.subject.expected(&values, release.deployed());
        self.deployment.note_hooks(&rolled_back);
        self.deployment.values = Some(expected);
        Ok(rolled_back?)
    }

    /// Runs the hooks of one event again, as Helm would.
    pub async fn run_hooks(&mut self, event: HookEvent) -> Result<Vec<HookOutput>, TrialError> {
        let release = self.deployment.release.as_ref().ok_or(TrialError::NotInstalled)?;
        let name = format!("run {} hooks", event.name());
        Ok(self
            .recorder
            .steps
            .run(name, Box::pin(release.run_hooks(event)))
            .await?)
    }
}

/// Names the immutable fields that an upgrade changes, if the API server refused the upgrade for
/// them.
fn refused_upgrade(error: ReleaseError, fixed: &[ImmutableChange]) -> TrialError {
    if fixed.is_empty() || !error.is_of_a_fixed_field() {
        return error.into();
    }
    let said = super::error::format_error(&error.into());
    let violation = |change: &ImmutableChange| {
        let expected = format!("to keep {}, which is immutable", change.field);
        let seen = format!(
            "the upgrade is refused: {} became {}",
            change.before, change.after
        );
        Violation::new(UPGRADE, &change.object, expected, seen).with_evidence(said.clone())
    };
    TrialError::unhealthy(fixed.iter().map(violation).collect())
}

/// The name of the check that an upgrade changes no immutable field.
const UPGRADE: &str = "upgrade";
