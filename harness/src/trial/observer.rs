//! Looking at a release from every node's point of view. It changes nothing, so that one can look while something is done.

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

/// Looks at one release.
#[derive(Clone)]
pub struct Observer {
    pods: Api<Pod>,
    links: Arc<Links>,
    passwords: Passwords,
    expected: ExpectedTopology,
    timeline: Timeline,
}

impl Observer {
    /// Looks over `links` at what `values` deploy in `namespace`, with the passwords if they say that there is one.
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

    /// The server pods: those of the StatefulSet, not those of Jobs or tests, by name.
    pub async fn server_pods(&self) -> Result<Vec<Pod>, TrialError> {
        let listed = self.pods.list(&ListParams::default()).await;
        let mut pods = listed
            .map_err(|source| TrialError::api("list pods", source))?
            .items;
        pods.retain(is_server);
        pods.sort_by_key(ResourceExt::name_any);
        Ok(pods)
    }

    /// Looks once over new connections, as a client that comes now does.
    pub async fn observe_anew(&self) -> Result<ClusterObservation, TrialError> {
        self.links.close();
        self.observe().await
    }

    /// Looks once.
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

/// Whether the pod is one of a StatefulSet's.
pub fn is_server(pod: &Pod) -> bool {
    pod.owner_references()
        .iter()
        .any(|owner| owner.kind == "StatefulSet")
}

/// What the values promise of the topology.
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
