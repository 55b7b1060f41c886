//! Observation of a release from every node's point of view. It changes nothing, so it can run
//! during an operation.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use manifests::{Mode, Values};

use super::error::TrialError;
use crate::secret::Passwords;
use crate::timeline::Timeline;
use crate::valkey::links::Links;
use crate::valkey::{ClusterObservation, ExpectedTopology, PodFacts};

/// An observer of one release.
#[derive(Clone)]
pub struct Observer {
    pods: Api<Pod>,
    links: Arc<Links>,
    passwords: Passwords,
    expected: ExpectedTopology,
    timeline: Timeline,
}

impl Observer {
    /// Makes an observer of `values` in `namespace`, over `links`. It uses the passwords only if
    /// `values` enable authentication.
    pub(super) fn new(
        client: Client,
        namespace: &str,
        values: &Values,
        links: Arc<Links>,
        passwords: &Passwords,
        timeline: Timeline,
    ) -> Self {
        let expected = expected_topology(values);
        Self {
            pods: Api::namespaced(client, namespace),
            links,
            passwords: if expected.auth {
                passwords.clone()
            } else {
                Passwords::default()
            },
            expected,
            timeline,
        }
    }

    /// Returns the StatefulSet's server pods by name, without the pods of Jobs or tests.
    pub async fn server_pods(&self) -> Result<Vec<Pod>, TrialError> {
        let listed = self.pods.list(&ListParams::default()).await;
        let mut pods = listed
            .map_err(|source| TrialError::api("list pods", source))?
            .items;
        pods.retain(is_server);
        pods.sort_by_key(ResourceExt::name_any);
        Ok(pods)
    }

    /// Observes once over new connections, like a client that connects now.
    pub async fn observe_over_new_connections(&self) -> Result<ClusterObservation, TrialError> {
        self.links.close();
        self.observe().await
    }

    /// Observes once.
    pub async fn observe(&self) -> Result<ClusterObservation, TrialError> {
        let pods = self.server_pods().await?.iter().map(PodFacts::from_pod).collect();
        let expected = self.expected.clone();
        let seen = ClusterObservation::collect(expected, pods, &self.links, &self.passwords).await;
        for (pod, view) in seen.answered() {
            if let Some(info) = &view.cluster_info {
                self.timeline.cluster_state(pod, &info.cluster_state);
            }
        }
        Ok(seen)
    }
}

/// Returns true if the pod belongs to a StatefulSet.
pub fn is_server(pod: &Pod) -> bool {
    pod.owner_references()
        .iter()
        .any(|owner| owner.kind == "StatefulSet")
}

/// Returns the topology that the values promise.
fn expected_topology(values: &Values) -> ExpectedTopology {
    let mut expected = match values.mode {
        Mode::Standalone => ExpectedTopology::standalone(values.standalone.replicas),
        Mode::Cluster => {
            ExpectedTopology::cluster(values.cluster.replicas, values.cluster.replicas_per_primary)
        }
    };
    expected.auth = values.auth.enabled;
    expected
}
