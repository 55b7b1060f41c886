//! A trial's own namespace. On a borrowed cluster, a trial may change nothing else. A namespace is
//! left alone if it lacks the run's label or if somebody else has recreated it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};

use super::environment::Environment;
use crate::cluster::namespaces::delete_exactly;
use crate::settings::RUN_LABEL;
use crate::settings::placement::PullSecret;
use crate::wait::{self, Expectation, Verdict};

/// The annotation that states a namespace's purpose.
const TRIAL_ANNOTATION: &str = "valkey-e2e/trial";

/// The grace period of pods in a namespace under deletion: the shortest that is not a forced
/// deletion.
const LAST_GRACE_SECONDS: u32 = 1;

/// The reason why a trial has no namespace. It is never the deployment's fault.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The namespace cannot be created.
    #[error("namespace {name} could not be created")]
    Create {
        /// The namespace.
        name: String,
        /// The API server's answer.
        #[source]
        source: kube::Error,
    },
    /// The Secret for pulling images cannot be copied into the namespace.
    #[error("Secret {}/{} could not be copied to namespace {name}", secret.namespace, secret.name)]
    PullSecret {
        /// The namespace.
        name: String,
        /// The Secret.
        secret: PullSecret,
        /// The API server's answer.
        #[source]
        source: kube::Error,
    },
}

/// Creates the namespace `name` for `trial`, labelled with the run and the Pod Security level.
pub(crate) async fn create(environment: &Environment, name: &str, trial: &str) -> Result<(), NamespaceError> {
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

/// Deletes the trial's namespace and everything in it, and waits until it is gone. A missing
/// namespace is success. A namespace without this run's label is left alone.
pub(crate) async fn delete(environment: &Environment, name: &str) -> Result<(), String> {
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

/// Shortens the grace period of a terminating namespace's pods, since their data is discarded
/// anyway. A server that receives the signal while it starts misses it, and uses up its whole grace
/// period.
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

fn is_of_run(namespace: &Namespace, run: &str) -> bool {
    let labels = namespace.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(RUN_LABEL))
        .is_some_and(|label| label == run)
}

/// Returns the objects that still block a terminating namespace, as its conditions name them.
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
