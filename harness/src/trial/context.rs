//! The interface of a scenario to its trial:
//! - Every verb is a step in the timeline and in the report.
//! - Every wait has a deadline from the profile.
//! - No code here depends on the cluster's provider.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use kube::{Client, ResourceExt};
use manifests::{Mode, Values, Variant};

use super::credentials::Credentials;
use super::data::TrialData;
use super::deployment::Deployment;
use super::environment::{Environment, Turn};
use super::error::TrialError;
use super::id::TrialId;
use super::observer::Observer;
use super::recorder::Recorder;
use super::steps::Steps;
use crate::cluster::PortForward;
use crate::timeline::Timeline;
use crate::valkey::dialer::Dialer;
use crate::valkey::links::Links;
use crate::valkey::{ClusterObservation, Connection, dial_with_any};
use crate::wait::{self, Expectation, Verdict, conditions};

/// The name of every trial's release. Namespaces keep trials apart, so the name can be short.
pub(super) const RELEASE_NAME: &str = "vk";

/// The interface of a scenario to its trial.
pub struct Context {
    pub(super) environment: Environment,
    id: TrialId,
    namespace: String,
    timeline: Timeline,
    dialer: Arc<PortForward>,
    links: Arc<Links>,
    /// The release that the trial installs.
    pub deployment: Deployment,
    /// The passwords of the release, and their redaction.
    pub credentials: Credentials,
    /// The keys that the trial writes.
    pub data: TrialData,
    /// The record that becomes the trial's report.
    pub recorder: Recorder,
    /// The trial's turn to use the machine. It is given back while the trial only watches.
    pub(crate) turn: Option<Turn>,
}

impl Context {
    /// Makes a context for a trial. The trial's namespace must exist.
    pub fn new(environment: Environment, id: TrialId, namespace: String, timeline: Timeline) -> Self {
        let credentials = Credentials::new(environment.subject.as_ref(), environment.secrets.clone());
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
            recorder: Recorder::new(timeline.clone(), steps),
            timeline,
            links: Arc::new(Links::new(dialer.clone())),
            dialer,
            deployment: Deployment::default(),
            credentials,
            data: TrialData::default(),
            turn: None,
        }
    }

    /// Returns the identity of the trial.
    pub fn id(&self) -> &TrialId {
        &self.id
    }

    /// Returns the release's name, the same in every trial.
    pub fn release_name(&self) -> &'static str {
        RELEASE_NAME
    }

    /// Returns the mode of this trial.
    pub fn mode(&self) -> Mode {
        self.id.mode
    }

    /// Returns the variant of this trial.
    pub fn variant(&self) -> Variant {
        self.id.variant
    }

    /// Returns a client for the cluster.
    pub fn client(&self) -> Client {
        self.environment.client.clone()
    }

    /// Returns the trial's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the environment that all trials of the run share.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns everything that has happened so far.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Returns the values to install: the trial's combination, with the profile, the placement and
    /// the user's settings. A scenario changes the values that it tests.
    pub fn values(&self) -> Values {
        self.environment.subject.settled(&self.defaults())
    }

    /// Returns the subject's defaults with the run's changes. The user's values have priority.
    pub(super) fn defaults(&self) -> Values {
        let mut values = self
            .environment
            .subject
            .combination(self.id.mode, self.id.variant);
        self.environment.profile.apply(&mut values);
        self.environment.placement.apply(&mut values);
        values
    }

    /// Returns the StatefulSet's server pods by name, without the pods of Jobs or tests.
    pub async fn server_pods(&self) -> Result<Vec<Pod>, TrialError> {
        self.observer(self.deployment.values()?).server_pods().await
    }

    /// Deletes server pods, all at once, and waits until their replacements are ready. The trial is
    /// invalid if a replacement has the old pod's address.
    pub async fn replace_pods(&mut self, names: &[String]) -> Result<(), TrialError> {
        let replaced = self
            .recorder
            .steps
            .clone()
            .run(
                format!("replace {}", names.join(", ")),
                futures::future::try_join_all(names.iter().map(|name| self.replace(name))),
            )
            .await;
        replaced.map(drop)
    }

    /// Connects to one pod's server with the release's password.
    pub async fn connect(&self, pod: &str) -> Result<Connection, TrialError> {
        let connected = dial_with_any(self.dialer.as_ref(), pod, &self.credentials.passwords).await;
        connected.map_err(|source| TrialError::Connect {
            pod: pod.to_owned(),
            source,
        })
    }

    /// Returns the dialer that opens streams to the release's servers.
    pub fn dialer(&self) -> Arc<dyn Dialer> {
        self.dialer.clone()
    }

    /// Observes the release once, from every node's point of view.
    pub async fn observe(&self) -> Result<ClusterObservation, TrialError> {
        self.observer(self.deployment.values()?).observe().await
    }

    /// Returns an observer of a release with `values`. It also works while this context is busy
    /// with the installation.
    pub fn observer(&self, values: &Values) -> Observer {
        Observer::new(
            self.client(),
            &self.namespace,
            values,
            self.links.clone(),
            &self.credentials.passwords,
            self.timeline.clone(),
        )
    }

    /// Returns the API for the pods of the trial's namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client(), &self.namespace)
    }

    async fn replace(&self, name: &str) -> Result<(), TrialError> {
        let pods = self.pods();
        let gone = |source| TrialError::api(format!("delete pod {name}"), source);
        let before = pods.get(name).await.map_err(gone)?;
        pods.delete(name, &DeleteParams::default()).await.map_err(gone)?;
        let budget = self.environment.deadlines.pod_replacement;
        let what = Expectation::new(format!("pod {name}"), "to be replaced and ready", budget)
            .pausing(self.timeline.deadline_pauses());
        let replaced = wait::object(&pods, name, what, |pod: Option<&Pod>| match pod {
            Some(pod) if pod.uid() == before.uid() => {
                Verdict::NotYet("the old pod is still there".to_owned())
            }
            Some(pod) if conditions::is_ready(pod) => Verdict::Ready(pod.clone()),
            Some(pod) => conditions::terminal_state(pod).map_or_else(
                || Verdict::NotYet(conditions::describe(Some(pod))),
                |state| Verdict::Never(state.to_string()),
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
