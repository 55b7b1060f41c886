//! `helm test` without servers, where it must fail. A test that hides its failure proves nothing.

use std::time::Duration;

use ::release::{ChartError, HookEvent, ReleaseError};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{ResourceExt, runtime::watcher};
use serde_json::json;

use super::context::Context;
use super::error::TrialError;
use super::observer::is_server;
use crate::checks::Violation;
use crate::wait::{self, Expectation, Verdict};

/// The promise's name.
const NAME: &str = "helm_test";

/// Time after which an unfinished test counts as failed.
const LONG_ENOUGH: Duration = Duration::from_secs(20);

impl Context {
    /// Takes every server away, and fails if `helm test` then succeeds. Must be a scenario's last
    /// act.
    pub async fn verify_helm_test_can_fail(&mut self) -> Result<(), TrialError> {
        self.scale_servers_down().await?;
        self.remove_earlier_tests().await?;
        let test = self.fails_without_servers();
        self.recorder.steps.run("helm test without servers", test).await?;
        self.recorder.kept([NAME]);
        Ok(())
    }

    async fn fails_without_servers(&self) -> Result<(), TrialError> {
        let release = self.deployment.release().ok_or(TrialError::NotInstalled)?;
        match tokio::time::timeout(LONG_ENOUGH, release.test()).await {
            Ok(Ok(_)) => Err(TrialError::unhealthy(vec![Violation::new(
                NAME,
                "helm test",
                "to fail while no server runs",
                "it succeeded: helm test cannot fail",
            )])),
            Ok(Err(error)) if !is_verdict(&error) => Err(error.into()),
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    /// Scales every StatefulSet to zero, and waits until no server pod is left.
    async fn scale_servers_down(&mut self) -> Result<(), TrialError> {
        self.recorder
            .steps
            .clone()
            .run("scale every server down", self.servers_gone())
            .await
    }

    async fn servers_gone(&self) -> Result<(), TrialError> {
        let sets: Api<StatefulSet> = Api::namespaced(self.client(), self.namespace());
        let listed = sets.list(&ListParams::default()).await;
        let nothing = Patch::Merge(json!({"spec": {"replicas": 0}}));
        for set in listed.map_err(|source| TrialError::api("list StatefulSets", source))? {
            let name = set.name_any();
            let scaled = sets.patch(&name, &PatchParams::default(), &nothing).await;
            scaled.map_err(|source| TrialError::api(format!("scale StatefulSet {name}"), source))?;
        }
        let budget = self.environment().deadlines.pod_replacement;
        let what = Expectation::new("the server pods", "to be gone", budget)
            .pausing(self.timeline().deadline_pauses());
        let pods = self.pods();
        let gone = wait::objects(&pods, watcher::Config::default(), what, |pods| {
            match pods.values().filter(|pod| is_server(pod)).count() {
                0 => Verdict::Ready(()),
                left => Verdict::NotYet(format!("{left} are left")),
            }
        });
        Ok(gone.await?)
    }

    /// Deletes the pods of earlier tests. A leftover pod would look like a failure of the test.
    async fn remove_earlier_tests(&self) -> Result<(), TrialError> {
        let hooks = self
            .deployment
            .release()
            .map(|release| release.deployed().hooks.as_slice());
        let tests = hooks
            .unwrap_or_default()
            .iter()
            .filter(|hook| hook.events.contains(&HookEvent::Test));
        let pods = self.pods();
        for test in tests.filter(|test| test.object.kind() == "Pod") {
            let name = test.object.name();
            let failed = |source| TrialError::api(format!("delete pod {name}"), source);
            match pods.delete(name, &DeleteParams::default().grace_period(0)).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                Err(source) => return Err(failed(source)),
            }
            let what = Expectation::new(format!("pod {name}"), "to be gone", LONG_ENOUGH);
            wait::object(&pods, name, what, |pod: Option<&Pod>| match pod {
                None => Verdict::Ready(()),
                Some(_) => Verdict::NotYet("it is being deleted".to_owned()),
            })
            .await?;
        }
        Ok(())
    }
}

/// Returns true if the test itself failed, rather than a step needed to run it.
fn is_verdict(error: &ReleaseError) -> bool {
    match error {
        ReleaseError::Hook { .. } | ReleaseError::HelmHook { .. } => true,
        ReleaseError::Chart(source) => matches!(**source, ChartError::Refused { .. }),
        _ => false,
    }
}
