//! Evidence that was collected after a failure. The triage reads it, and its files are kept for
//! people.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::checks::Violation;
use crate::release::{HookEvent, HookOutput};
use crate::timeline::Entry;
use crate::valkey::ClusterObservation;
use crate::valkey::ledger::Verification;

/// Everything found about one trial, without passwords.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// The error that the scenario ended with, as text.
    pub error: String,
    /// The act that failed.
    pub failure: Failure,
    /// The promises that the trial saw broken, those of its final error first.
    pub violations: Vec<Violation>,
    /// Number of `violations` that belong to the trial's final error; 0 means all.
    pub decisive: usize,
    /// The pods of the namespace.
    pub pods: Vec<Pod>,
    /// The jobs of the namespace.
    pub jobs: Vec<Job>,
    /// The claims of the namespace.
    pub claims: Vec<PersistentVolumeClaim>,
    /// The services of the namespace.
    pub services: Vec<Service>,
    /// The entries of the release's Secrets, without their values.
    pub secrets: Vec<SecretEntry>,
    /// The endpoint slices of the Services.
    pub slices: Vec<EndpointSlice>,
    /// The events of the namespace, oldest first.
    pub events: Vec<Event>,
    /// The view of each node that has one.
    pub observation: Option<ClusterObservation>,
    /// Observations at earlier moments, when promises were seen broken and the trial went on.
    pub earlier: Vec<ClusterObservation>,
    /// The last lines of every container, by `pod/container` and `pod/container (previous)`.
    pub logs: BTreeMap<String, String>,
    /// `nodes.conf` by pod, where it could be read.
    pub nodes_conf: BTreeMap<String, String>,
    /// The hooks of the deployed objects, each with its name and its events.
    pub hooks: Vec<(String, Vec<HookEvent>)>,
    /// The labels of the pods that the hooks' Jobs make. The Jobs are often deleted already.
    pub hook_pods: BTreeMap<String, BTreeMap<String, String>>,
    /// The output of the hooks of the last act, if all of them succeeded.
    pub hook_outputs: Vec<HookOutput>,
    /// The pods that scaling has taken out of the cluster, by node ID.
    pub removed_pods: BTreeMap<String, String>,
    /// The fate of every key at the last verification.
    pub keys: Option<Verification>,
    /// The deployed objects, as YAML.
    pub manifests: String,
    /// Everything that happened.
    pub timeline: Vec<Entry>,
    /// Evidence that could not be fetched, with the reasons.
    pub gaps: Vec<String>,
}

impl Evidence {
    /// Returns true if the violation at this index belongs to the error that the trial ended with.
    pub fn is_decisive(&self, place: usize) -> bool {
        self.decisive == 0 || place < self.decisive
    }
}

/// An entry of a Secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretEntry {
    /// The Secret's name.
    pub secret: String,
    /// The entry's key.
    pub key: String,
    /// True if its value ends with a line break.
    pub ends_with_newline: bool,
}
