//! A trial's own namespace. On a cluster that somebody else keeps, it is all that a trial may change: a namespace that
//! does not carry the run's label, or that has been made anew by somebody else, is left alone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};

use super::environment::{Environment, RUN_LABEL};
use super::placement::PullSecret;
use crate::wait::{self, Expectation, Verdict};

/// The annotation that says what a namespace is for.
const TRIAL_ANNOTATION: &str = "valkey-e2e/trial";

/// What pods of a namespace that is being deleted have left to end by themselves: the least that is not a forced deletion.
const LAST_GRACE_SECONDS: u32 = 1;

/// Why a trial has no namespace. Never the deployment's fault.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// It cannot be made.
    #[error("namespace {name} could not be created")]
    Create {
        /// The namespace.
        name: String,
        /// What the API server said.
        #[source]
        source: kube::Error,
    },
    /// The Secret for pulling images cannot be copied into it.
    #[error("Secret {}/{} could not be copied to namespace {name}", secret.namespace, secret.name)]
    PullSecret {
        /// The namespace.
        name: String,
        /// The Secret.
        secret: PullSecret,
        /// What the API server said.
        #[source]
        source: kube::Error,
    },
}

/// Makes the namespace `name` for `trial`, labelled with the run and the Pod Security level.
pub(super) async fn create(environment: &Environment, name: &str, trial: &str) -> Result<(), NamespaceError> {
    let mut labels = BTreeMap::from(environment.placement.pod_security.labels());
    labels.insert(RUN_LABEL.to_owned(), environment.run.clone());
    let annotations = BTreeMap::from([(TRIAL_ANNOTATION.to_owned(), trial.to_owned())]);
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let namespaces: Api<Namespace> = Api::all(environment.client.clone());
    let created = namespaces.create(&PostParams::default(), &namespace).await;
    created.map_err(|source| NamespaceError::Create {
        name: name.to_owned(),
        source,
    })?;
    match &environment.placement.image_pull_secret {
        Some(secret) => copy_secret(environment, secret, name).await,
        None => Ok(()),
    }
}

async fn copy_secret(
    environment: &Environment,
    secret: &PullSecret,
    name: &str,
) -> Result<(), NamespaceError> {
    let failed = |source| NamespaceError::PullSecret {
        name: name.to_owned(),
        secret: secret.clone(),
        source,
    };
    let secrets = |namespace| Api::<Secret>::namespaced(environment.client.clone(), namespace);
    let original = secrets(&secret.namespace)
        .get(&secret.name)
        .await
        .map_err(failed)?;
    let copy = Secret {
        metadata: ObjectMeta {
            name: Some(secret.name.clone()),
            ..ObjectMeta::default()
        },
        type_: original.type_,
        data: original.data,
        ..Secret::default()
    };
    let created = secrets(name).create(&PostParams::default(), &copy).await;
    created.map(drop).map_err(failed)
}

/// Deletes the trial's namespace and everything in it, and waits until it is gone. Gone already is success; a namespace
/// that is not this run's is not touched.
pub(super) async fn delete(environment: &Environment, name: &str) -> Result<(), String> {
    let failed = |error: kube::Error| format!("namespace {name} could not be deleted: {error}");
    let namespaces: Api<Namespace> = Api::all(environment.client.clone());
    let Some(found) = namespaces.get_opt(name).await.map_err(failed)? else {
        return Ok(());
    };
    if !is_of_run(&found, &environment.run) {
        return Err(format!(
            "namespace {name} is not labelled with this run, and was left alone"
        ));
    }
    delete_exactly(&namespaces, &found).await.map_err(failed)?;
    hurry(environment, name).await.map_err(failed)?;
    let budget = environment.deadlines.namespace_gone;
    let what = Expectation::new(format!("namespace {name}"), "to be gone", budget);
    let gone = wait::object(&namespaces, name, what, |namespace| {
        let terminating = namespace.filter(|now| now.metadata.uid == found.metadata.uid);
        terminating.map_or(Verdict::Ready(()), |namespace| {
            Verdict::NotYet(progress(namespace))
        })
    });
    gone.await.map_err(|error| error.to_string())
}

/// Shortens the end of a terminating namespace's pods: their data goes with them. A server that is told to end while it
/// starts misses the signal, and would be waited for until its whole grace period is over.
async fn hurry(environment: &Environment, namespace: &str) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::namespaced(environment.client.clone(), namespace);
    let soon = DeleteParams::default().grace_period(LAST_GRACE_SECONDS);
    match pods.delete_collection(&soon, &ListParams::default()).await {
        Ok(_) => Ok(()),
        // The namespace is gone already.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes the very namespace that was looked at, not another one that has taken its name since. Gone is success.
///
/// # Errors
/// When the API server refuses.
pub async fn delete_exactly(namespaces: &Api<Namespace>, found: &Namespace) -> Result<(), kube::Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: found.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    let name = found.metadata.name.as_deref().unwrap_or_default();
    match namespaces.delete(name, &params).await {
        Ok(_) => Ok(()),
        // 409: it is another one now, or it is terminating already.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_of_run(namespace: &Namespace, run: &str) -> bool {
    let labels = namespace.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(RUN_LABEL))
        .is_some_and(|label| label == run)
}

/// What a terminating namespace still waits for, in the words of its conditions.
fn progress(namespace: &Namespace) -> String {
    let conditions = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let messages: Vec<&str> = conditions
        .into_iter()
        .flatten()
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message.as_deref())
        .collect();
    if messages.is_empty() {
        "it is terminating".to_owned()
    } else {
        format!("it is terminating: {}", messages.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(yaml: &str) -> Namespace {
        serde_yaml::from_str(yaml).expect("the test's own YAML is a namespace")
    }

    #[test]
    fn only_a_namespace_with_the_label_of_the_run_is_the_runs() {
        let own = namespace("{metadata: {name: vk-x, labels: {valkey-e2e/run: r1}}}");
        assert!(is_of_run(&own, "r1"));
        assert!(!is_of_run(&own, "r2"));
        assert!(!is_of_run(&namespace("{metadata: {name: vk-x}}"), "r1"));
    }

    #[test]
    fn a_namespace_that_does_not_go_says_what_it_waits_for() {
        let stuck = namespace(
            "{metadata: {}, status: {conditions: [
               {type: NamespaceContentRemaining, status: 'True', message: 'pods. has 1 resource instances'},
               {type: NamespaceDeletionDiscoveryFailure, status: 'False', message: 'All resources discovered'}]}}",
        );
        assert_eq!(
            progress(&stuck),
            "it is terminating: pods. has 1 resource instances"
        );
    }
}
