//! What a scenario acts through. Every verb is a step in the timeline and in the report; every wait has a deadline from the
//! profile; nothing here knows which provider the cluster is from.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use kube::{Client, ResourceExt};
use manifests::{Mode, Values, Variant};

use super::environment::{Environment, Turn};
use super::error::TrialError;
use super::history::Past;
use super::hopeless::{STILL_UNFORMED, UNABLE_TO_SYNC, hopeless};
use super::id::TrialId;
use super::observer::Observer;
use super::passwords;
use super::steps::Steps;
use crate::cluster::PortForward;
use crate::release::{Bundle, HookEvent, HookOutput, Release, ReleaseError};
use crate::report::TrialRecord;
use crate::secret::{Password, Passwords, Redactor};
use crate::timeline::Timeline;
use crate::valkey::dialer::Dialer;
use crate::valkey::ledger::{Ledger, Verification};
use crate::valkey::links::Links;
use crate::valkey::load::Load;
use crate::valkey::{ClusterObservation, Connection, dial_with_any};
use crate::wait::{self, Expectation, Verdict, conditions};

/// The name of every trial's release: namespaces keep trials apart, and short names read well.
const RELEASE_NAME: &str = "vk";

/// What a scenario acts through.
pub struct Context {
    environment: Environment,
    id: TrialId,
    namespace: String,
    timeline: Timeline,
    generated: manifests::Password,
    pub(super) passwords: Passwords,
    pub(super) redactor: Redactor,
    dialer: Arc<PortForward>,
    links: Arc<Links>,
    release: Option<Release>,
    values: Option<Values>,
    pub(super) steps: Steps,
    pub(super) ledger: Option<Ledger>,
    /// What became of every key when it was last looked.
    pub(super) accounted: Option<Verification>,
    /// What the hooks of the last act printed, if all of them succeeded.
    hook_outputs: Vec<HookOutput>,
    pub(super) load: Option<Load>,
    pub(super) loads: u32,
    pub(super) past: Past,
    /// The trial's turn to use the machine; given back while it only watches.
    pub(super) turn: Option<Turn>,
    measurements: BTreeMap<String, f64>,
    pub(super) record: TrialRecord,
}

impl Context {
    /// A context for a trial whose namespace exists.
    pub fn new(environment: Environment, id: TrialId, namespace: String, timeline: Timeline) -> Self {
        let generated = passwords::generate();
        let password = Password::new(generated.reveal());
        let mut redactor = Redactor::default();
        redactor.register(&password);
        for secret in environment
            .chart
            .iter()
            .flat_map(|chart| chart.overrides().secrets())
        {
            let secret = Password::new(secret);
            redactor.register(&secret);
            environment.secrets.register(&secret);
        }
        environment.secrets.register(&password);
        let client = environment.client.clone();
        let dialer = Arc::new(PortForward::new(
            client,
            &namespace,
            manifests::release::CLIENT_PORT,
        ));
        let steps = Steps::new(id.to_string(), timeline.clone(), environment.events.clone());
        Self {
            environment,
            id,
            namespace,
            timeline,
            generated,
            passwords: Some(password).into(),
            redactor,
            links: Arc::new(Links::new(dialer.clone())),
            dialer,
            release: None,
            values: None,
            steps,
            ledger: None,
            accounted: None,
            hook_outputs: Vec::new(),
            load: None,
            loads: 0,
            past: Past::default(),
            turn: None,
            measurements: BTreeMap::new(),
            record: TrialRecord::default(),
        }
    }

    /// Which trial this is.
    pub fn id(&self) -> &TrialId {
        &self.id
    }

    /// The release's name, the same in every trial.
    pub fn release_name(&self) -> &'static str {
        RELEASE_NAME
    }

    /// The mode of this trial.
    pub fn mode(&self) -> Mode {
        self.id.mode
    }

    /// The variant of this trial.
    pub fn variant(&self) -> Variant {
        self.id.variant
    }

    /// A client for the cluster.
    pub fn client(&self) -> Client {
        self.environment.client.clone()
    }

    /// The trial's own namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What all trials of the run share.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Everything that has happened so far.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The release, once installed.
    pub fn release(&self) -> Option<&Release> {
        self.release.as_ref()
    }

    /// The password that the release's servers have now.
    pub fn password(&self) -> Password {
        let first = self.passwords.first().cloned();
        first.unwrap_or_else(|| Password::new(self.generated.reveal()))
    }

    /// The values to install: the trial's combination under the run's profile, at its site. A scenario changes what its
    /// story needs.
    pub fn values(&self) -> Values {
        let mut values = Values::combination(self.id.mode, self.id.variant);
        self.environment.profile.apply(&mut values);
        self.environment.placement.apply(&mut values);
        match &self.environment.chart {
            None => values,
            Some(chart) => chart
                .overrides()
                .apply(&values)
                .expect("checked for every combination before the run"),
        }
    }

    /// The values that are installed.
    pub fn installed_values(&self) -> Result<&Values, TrialError> {
        self.values.as_ref().ok_or(TrialError::NotInstalled)
    }

    /// Renders the chart and installs it, hooks included.
    pub async fn install(&mut self, values: Values) -> Result<Vec<HookOutput>, TrialError> {
        let bundle = Box::pin(self.bundle(&values)).await?;
        Box::pin(self.install_bundle(values, bundle)).await
    }

    /// Installs manifests that differ from what `values` render: how the tests of the checks break a deployment.
    pub async fn install_bundle(
        &mut self,
        values: Values,
        bundle: Bundle,
    ) -> Result<Vec<HookOutput>, TrialError> {
        let step = self.steps.begin("install");
        if let Some(password) = passwords::given(&values) {
            self.keep_out(&password);
            self.passwords.prefer(password);
        }
        let deadline = self.environment.deadlines.hook;
        let release = Release::new(
            self.client(),
            &self.namespace,
            RELEASE_NAME,
            self.timeline.clone(),
            deadline,
        );
        // Manifests that no chart rendered are deployed without it.
        let release = release.of_chart(self.environment.chart.clone().filter(|_| bundle.values.is_some()));
        let observer = self.observer(&values);
        let patience = self.timeline.patience();
        self.record_values(&values);
        self.values = Some(values);
        let installed = tokio::select! {
            biased;
            installed = Box::pin(self.release.insert(release).install(bundle)) => installed.map_err(TrialError::from),
            hopeless = hopeless(&observer, &[STILL_UNFORMED, UNABLE_TO_SYNC], patience) => Err(hopeless),
        };
        self.steps.end(step, installed.is_ok());
        self.note_hooks(&installed);
        installed
    }

    /// Keeps what hooks printed that succeeded; one that fails says in its error what it printed.
    fn note_hooks<E>(&mut self, ran: &Result<Vec<HookOutput>, E>) {
        self.hook_outputs = ran.as_ref().ok().cloned().unwrap_or_default();
    }

    /// What the hooks of the last installation, upgrade or rollback printed, if all of them succeeded.
    pub fn hook_outputs(&self) -> &[HookOutput] {
        &self.hook_outputs
    }

    /// The pods that scaling has taken out of the cluster, by the IDs of the nodes that they were.
    pub fn removed_pods(&self) -> &BTreeMap<String, String> {
        self.past.removed_pods()
    }

    /// What became of every key when it was last looked, if it was.
    pub fn accounted(&self) -> Option<&Verification> {
        self.accounted.as_ref()
    }

    /// The objects that `values` render to, for this trial's release.
    pub fn render(&self, values: &Values) -> Result<Bundle, TrialError> {
        let release = self.naming().with_password(self.generated.clone());
        let rendered = manifests::render(&release, values)?;
        Ok(Bundle::from_manifests(&rendered)?)
    }

    /// What Helm knows of the release.
    pub(super) fn naming(&self) -> manifests::Release {
        manifests::Release::install(RELEASE_NAME, &self.namespace)
    }

    /// What `values` render to: by the chart under test, or else by our own generator. A chart that would make a password
    /// of its own is given the trial's.
    async fn bundle(&self, values: &Values) -> Result<Bundle, TrialError> {
        let mut values = values.clone();
        if self.environment.chart.is_some() && values.needs_password() {
            self.generated.reveal().clone_into(&mut values.auth.password);
        }
        self.bundle_as_given(&values).await
    }

    /// The same, but a chart makes its own password when `values` have none.
    pub(super) async fn bundle_as_given(&self, values: &Values) -> Result<Bundle, TrialError> {
        let Some(chart) = &self.environment.chart else {
            return self.render(values);
        };
        let rendered = chart.render(RELEASE_NAME, &self.namespace, values).await;
        Ok(rendered.map_err(|error| ReleaseError::Chart(Box::new(error)))?)
    }

    /// Renders the chart anew and upgrades the release, hooks included.
    pub async fn upgrade(&mut self, values: Values) -> Result<Vec<HookOutput>, TrialError> {
        let bundle = Box::pin(self.render_upgrade(&values)).await?;
        Box::pin(self.upgrade_bundle(values, bundle)).await
    }

    /// Upgrades to manifests that differ from what `values` render.
    pub async fn upgrade_bundle(
        &mut self,
        values: Values,
        bundle: Bundle,
    ) -> Result<Vec<HookOutput>, TrialError> {
        if let Some(password) = passwords::given(&values) {
            self.keep_out(&password);
            self.passwords.add(password);
        }
        let step = self.steps.begin("upgrade");
        let release = self.release.as_mut().ok_or(TrialError::NotInstalled)?;
        let upgraded = Box::pin(release.upgrade(bundle)).await;
        self.steps.end(step, upgraded.is_ok());
        self.note_hooks(&upgraded);
        self.record_values(&values);
        self.values = Some(values);
        Ok(upgraded?)
    }

    /// `helm test`.
    pub async fn helm_test(&mut self) -> Result<Vec<HookOutput>, TrialError> {
        let step = self.steps.begin("helm test");
        let release = self.release.as_ref().ok_or(TrialError::NotInstalled)?;
        let ran = release.test().await;
        self.steps.end(step, ran.is_ok());
        Ok(ran?)
    }

    /// `helm rollback` to a revision, of which `values` were the values.
    pub async fn rollback(&mut self, revision: u32, values: Values) -> Result<Vec<HookOutput>, TrialError> {
        let step = self.steps.begin(&format!("roll back to revision {revision}"));
        let release = self.release.as_mut().ok_or(TrialError::NotInstalled)?;
        let rolled_back = Box::pin(release.rollback(revision)).await;
        self.steps.end(step, rolled_back.is_ok());
        self.note_hooks(&rolled_back);
        self.values = Some(values);
        Ok(rolled_back?)
    }

    /// Runs the hooks of one event again, as Helm would.
    pub async fn run_hooks(&mut self, event: HookEvent) -> Result<Vec<HookOutput>, TrialError> {
        let step = self.steps.begin(&format!("run {} hooks", event.name()));
        let release = self.release.as_ref().ok_or(TrialError::NotInstalled)?;
        let ran = release.run_hooks(event).await;
        self.steps.end(step, ran.is_ok());
        Ok(ran?)
    }

    /// The server pods: those of the StatefulSet, not those of Jobs or tests, by name.
    pub async fn server_pods(&self) -> Result<Vec<Pod>, TrialError> {
        self.observer(self.installed_values()?).server_pods().await
    }

    /// Deletes server pods, all at once, and waits until others of the same names are ready, each under a new address.
    /// A pod that keeps its address has not been replaced: then the trial is invalid.
    pub async fn replace_pods(&mut self, names: &[String]) -> Result<(), TrialError> {
        let step = self.steps.begin(&format!("replace {}", names.join(", ")));
        let replaced = futures::future::try_join_all(names.iter().map(|name| self.replace(name))).await;
        self.steps.end(step, replaced.is_ok());
        replaced.map(drop)
    }

    /// A connection to one pod's server, with the release's password.
    pub async fn connect(&self, pod: &str) -> Result<Connection, TrialError> {
        let connected = dial_with_any(self.dialer.as_ref(), pod, &self.passwords).await;
        connected.map_err(|source| TrialError::Connect {
            pod: pod.to_owned(),
            source,
        })
    }

    /// What opens streams to the release's servers.
    pub fn dialer(&self) -> Arc<dyn Dialer> {
        self.dialer.clone()
    }

    /// Looks once, from every node's point of view.
    pub async fn observe(&self) -> Result<ClusterObservation, TrialError> {
        self.observer(self.installed_values()?).observe().await
    }

    /// What looks at a release of `values`, also while this context is busy with installing it.
    pub fn observer(&self, values: &Values) -> Observer {
        Observer::new(
            self.client(),
            &self.namespace,
            values,
            self.links.clone(),
            &self.passwords,
            self.timeline.clone(),
        )
    }

    /// Puts a number into the report.
    pub fn measure(&mut self, name: impl Into<String>, value: f64) {
        self.measurements.insert(name.into(), value);
    }

    /// `text` without the trial's passwords.
    pub fn redact(&self, text: &str) -> String {
        self.redactor.redact(text)
    }

    /// The pods of the trial's namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client(), &self.namespace)
    }

    pub(super) fn take_steps(&mut self) -> Vec<crate::report::StepReport> {
        self.steps.take()
    }

    pub(super) fn take_record(&mut self) -> TrialRecord {
        std::mem::take(&mut self.record)
    }

    /// What removes the trial's passwords.
    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    pub(super) fn take_measurements(&mut self) -> BTreeMap<String, f64> {
        std::mem::take(&mut self.measurements)
    }

    async fn replace(&self, name: &str) -> Result<(), TrialError> {
        let pods = self.pods();
        let gone = |source| TrialError::api(format!("delete pod {name}"), source);
        let before = pods.get(name).await.map_err(gone)?;
        pods.delete(name, &DeleteParams::default()).await.map_err(gone)?;
        let budget = self.environment.deadlines.pod_replacement;
        let what = Expectation::new(format!("pod {name}"), "to be replaced and ready", budget)
            .patient(self.timeline.patience());
        let replaced = wait::object(&pods, name, what, |pod: Option<&Pod>| match pod {
            Some(pod) if pod.uid() == before.uid() => {
                Verdict::NotYet("the old pod is still there".to_owned())
            }
            Some(pod) if conditions::is_ready(pod) => Verdict::Ready(pod.clone()),
            Some(pod) => conditions::doom(pod).map_or_else(
                || Verdict::NotYet(conditions::describe(Some(pod))),
                Verdict::Never,
            ),
            None => Verdict::NotYet("absent".to_owned()),
        });
        let address = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let (old, new) = (address(&before), address(&replaced.await?));
        if old == new {
            return Err(TrialError::Invalid(format!(
                "pod {name} came back under its old address {old:?}"
            )));
        }
        Ok(())
    }
}
