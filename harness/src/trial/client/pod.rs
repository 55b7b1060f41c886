//! The client pod: one for the whole run, in a separate namespace. The first trial that needs it
//! creates it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use manifests::Values;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::super::environment::Environment;
use super::super::error::TrialError;
use super::super::namespace;
use crate::settings::RUN_LABEL;
use crate::wait::{self, Expectation, Verdict, conditions};

/// The name of the pod and of its container.
pub(super) const NAME: &str = "client";

/// Waits for the signal to end. A shell that runs as process 1 needs a trap for that signal.
const WAIT_FOR_THE_END: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

/// The run's client pod. Clones share it.
#[derive(Debug, Clone)]
pub struct ClientPod {
    image: Arc<str>,
    progress: Arc<Mutex<Progress>>,
}

/// The progress of the pod's creation. The next trial retries a step that failed.
#[derive(Debug, Default)]
struct Progress {
    namespace: bool,
    pod: bool,
    ready: bool,
}

impl ClientPod {
    /// Describes a client pod without creating it. `image` has a shell and `valkey-cli`, and the
    /// run uses it anyway.
    pub fn new(image: &str) -> Self {
        Self {
            image: image.into(),
            progress: Arc::default(),
        }
    }

    /// Returns the namespace of the run's client pod.
    pub fn namespace(prefix: &str, run: &str) -> String {
        let digest = Sha256::digest(run);
        let tail: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("{prefix}-client-{tail}")
    }

    /// Returns the API for the client pod, and creates the pod first if necessary. `values` say
    /// where pods may run.
    pub(super) async fn ready(
        &self,
        environment: &Environment,
        values: &Values,
    ) -> Result<Api<Pod>, TrialError> {
        let name = Self::namespace(&environment.placement.namespace_prefix, &environment.run);
        let pods: Api<Pod> = Api::namespaced(environment.client.clone(), &name);
        let mut progress = self.progress.lock().await;
        if !progress.ready {
            self.start(environment, values, &name, &pods, &mut progress)
                .await?;
        }
        Ok(pods)
    }

    /// Deletes the pod's namespace, if there is one, and waits until it is gone.
    ///
    /// # Errors
    /// Returns the reason as text if the namespace is not gone in time.
    pub async fn remove(&self, environment: &Environment) -> Result<(), String> {
        if !std::mem::take(&mut *self.progress.lock().await).namespace {
            return Ok(());
        }
        let name = Self::namespace(&environment.placement.namespace_prefix, &environment.run);
        namespace::delete(environment, &name).await
    }

    async fn start(
        &self,
        environment: &Environment,
        values: &Values,
        namespace: &str,
        pods: &Api<Pod>,
        progress: &mut Progress,
    ) -> Result<(), TrialError> {
        let failed = |why: String| TrialError::Client(format!("pod {NAME} in namespace {namespace}: {why}"));
        if !progress.namespace {
            let made = namespace::create(environment, namespace, NAME).await;
            made.map_err(|error| failed(crate::trial::format_error(&error.into())))?;
            progress.namespace = true;
        }
        if !progress.pod {
            let pod = self.pod(&environment.run, values);
            let created = pods.create(&PostParams::default(), &pod).await;
            created.map_err(|error| failed(error.to_string()))?;
            progress.pod = true;
        }
        let budget = environment.deadlines.pod_replacement;
        let what = Expectation::new("the client pod", "to be ready", budget);
        let ready = wait::object(pods, NAME, what, |pod: Option<&Pod>| match pod {
            Some(pod) if conditions::is_ready(pod) => Verdict::Ready(()),
            Some(pod) => conditions::terminal_state(pod).map_or_else(
                || Verdict::NotYet(conditions::describe(Some(pod))),
                |state| Verdict::Never(state.to_string()),
            ),
            None => Verdict::NotYet("absent".to_owned()),
        });
        ready.await.map_err(|error| failed(error.to_string()))?;
        progress.ready = true;
        Ok(())
    }

    /// Describes a pod that satisfies Pod Security `restricted`, whatever the chart's own pods
    /// satisfy.
    fn pod(&self, run: &str, values: &Values) -> Pod {
        let identity = &values.security_context;
        let mut pod = json!({
            "metadata": {"name": NAME, "labels": {RUN_LABEL: run}},
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {
                    "runAsNonRoot": true,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "nodeSelector": values.node_selector,
                "tolerations": values.tolerations,
                "imagePullSecrets": values.image.pull_secrets,
                "containers": [{
                    "name": NAME,
                    "image": &*self.image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", WAIT_FOR_THE_END],
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "32Mi"},
                        "limits": {"memory": "128Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }],
            },
        });
        let context = &mut pod["spec"]["securityContext"];
        // Omitted if the cluster chooses the IDs.
        if let Some(user) = identity.run_as_user.filter(|user| *user != 0) {
            context["runAsUser"] = user.into();
        }
        if let Some(group) = identity.run_as_group {
            context["runAsGroup"] = group.into();
        }
        serde_json::from_value(pod).expect("a literal pod")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_differs_between_runs() {
        let name = ClientPod::namespace("vk", "r1");
        assert!(name.starts_with("vk-client-"), "{name}");
        assert_ne!(name, ClientPod::namespace("vk", "r2"));
    }

    #[test]
    fn the_pod_keeps_to_restricted_and_carries_the_run() {
        let client = ClientPod::new("perconalab/valkey:9.0.3");
        let mut values = Values::default();
        let pod = client.pod("r1", &values);
        assert_eq!(pod.metadata.labels.as_ref().unwrap()[RUN_LABEL], "r1");
        let user = |pod: &Pod| pod.spec.clone().unwrap().security_context.unwrap().run_as_user;
        assert_eq!(user(&pod), Some(999));
        // Platforms that assign users refuse a pod that sets one.
        values.security_context.run_as_user = None;
        assert_eq!(user(&client.pod("r1", &values)), None);
    }
}
