//! What was found after a failure. The triage reads it, and its files are what is left for a person.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::{Deserialize, Serialize};

use crate::release::{HookEvent, HookOutput};
use crate::timeline::Entry;
use crate::valkey::ClusterObservation;
use crate::valkey::ledger::Verification;

/// Everything that was found of one trial, already without passwords.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// The error that the scenario ended with.
    pub error: String,
    /// The pods of the namespace.
    pub pods: Vec<Pod>,
    /// The jobs of the namespace.
    pub jobs: Vec<Job>,
    /// The claims of the namespace.
    pub claims: Vec<PersistentVolumeClaim>,
    /// The services of the namespace.
    pub services: Vec<Service>,
    /// Who the services send clients to.
    pub slices: Vec<EndpointSlice>,
    /// The events of the namespace, oldest first.
    pub events: Vec<Event>,
    /// What each node says, where it says anything.
    pub observation: Option<ClusterObservation>,
    /// The last lines of every container, by `pod/container` and `pod/container (previous)`.
    pub logs: BTreeMap<String, String>,
    /// `nodes.conf` by pod, where it could be read.
    pub nodes_conf: BTreeMap<String, String>,
    /// The hooks of what was deployed: each one's name, and when it runs.
    pub hooks: Vec<(String, Vec<HookEvent>)>,
    /// The labels that the pods of its hooks' Jobs get: the Jobs themselves are often deleted by now.
    pub hook_pods: BTreeMap<String, BTreeMap<String, String>>,
    /// What the hooks of the last act printed, where all of them succeeded.
    pub hook_outputs: Vec<HookOutput>,
    /// The pods that scaling has taken out of the cluster, by the IDs of the nodes that they were.
    pub removed_pods: BTreeMap<String, String>,
    /// What became of every key when it was last looked.
    pub keys: Option<Verification>,
    /// What was deployed, as YAML.
    pub manifests: String,
    /// Everything that happened.
    pub timeline: Vec<Entry>,
    /// What could not be fetched, and why.
    pub gaps: Vec<String>,
}
