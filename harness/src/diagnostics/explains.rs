//! The violations that a cause explains: its promises and its subjects. A failure's headline is a
//! cause that explains the violation that failed the trial. A cause that explains no violation is
//! reported as a separate finding.

use super::cause::Cause;
use super::failure::{DEPLOYMENT, FORMATION, HOOKS, PODS, ROLLOUT};
use crate::checks::{
    Violation, announce, balance, bus, client, cluster_state, disruption_budget, drain, forgotten, history,
    last_copy, password, persistence, reachability, readiness, replication, restarts, services,
    slot_coverage, step_back, topology,
};
use crate::valkey::load;

/// The promise that no acknowledged key is lost.
const DATA: &str = "data";
/// The promise that no acknowledged write of a load is lost.
pub(super) const LOAD: &str = load::report::DATA;
/// The promise that writes go on.
const AVAILABILITY: &str = "availability";
/// The promise that clients can reach every server.
const CLIENTS: &str = client::NAME;

/// Promises about the cluster that the servers form.
const CLUSTER: [&str; 10] = [
    reachability::NAME,
    cluster_state::NAME,
    slot_coverage::NAME,
    topology::NAME,
    replication::NAME,
    balance::NAME,
    announce::NAME,
    bus::NAME,
    readiness::NAME,
    forgotten::NAME,
];

/// Promises that cannot hold while a server's pod does not run.
const RUNNING: [&str; 5] = [PODS, HOOKS, FORMATION, ROLLOUT, restarts::NAME];

impl Cause {
    /// Returns true if this says what failed, and not why.
    pub fn is_symptom(&self) -> bool {
        matches!(
            self,
            Self::HookWaits { .. } | Self::HookFails { .. } | Self::KeysAreGone { .. }
        )
    }

    /// Returns true if this cause explains why the promise is broken.
    pub fn explains(&self, violation: &Violation) -> bool {
        let promise = violation.check.as_str();
        let any = |promises: &[&str]| promises.contains(&promise);
        let about = |name: &str| names(&violation.subject, name);
        match self {
            Self::AdmissionRefuses { kind, name, .. } => {
                (promise == PODS && about(name))
                    || (kind == "StatefulSet" && stops_servers(promise))
                    || hooks_of(violation, name)
            }
            Self::NameTooLong { object, .. } => {
                promise == DEPLOYMENT
                    || (promise == PODS && about(object))
                    || (object.starts_with("StatefulSet") && stops_servers(promise))
            }
            Self::SomethingIsMissing { needed_by, .. } => {
                (promise == PODS && about(needed_by)) || stops_servers(promise)
            }
            Self::ImageCannotBeHad { pod, .. }
            | Self::ContainerCannotBeMade { pod, .. }
            | Self::ProgramIsMissing { pod, .. }
            | Self::ProbeNeedsWhatTheImageLacks { pod, .. } => {
                (promise == PODS && are_siblings(&violation.subject, pod)) || stops_servers(promise)
            }
            Self::PodFitsNowhere { pod, .. } => (promise == PODS && about(pod)) || stops_servers(promise),
            Self::OutOfMemory { pod, .. } | Self::ServerCrashes { pod, .. } => {
                (any(&[PODS, restarts::NAME]) && about(pod))
                    || (promise != PODS && stops_servers(promise))
                    || any(&[DATA, LOAD, AVAILABILITY])
            }
            Self::SidecarCrashes { pod, .. } => {
                (any(&[PODS, restarts::NAME, readiness::NAME]) && about(pod))
                    || any(&[ROLLOUT, HOOKS, services::NAME])
            }
            Self::VolumeClaimIsUnbound { pod, .. } | Self::ServerNeverStarts { pod, .. } => {
                (promise == PODS && about(pod)) || stops_servers(promise)
            }
            Self::NamesAreNotPublished { service, unformed } => {
                any(&[HOOKS, FORMATION])
                    || (promise == services::NAME && about(service))
                    || (*unformed && (any(&CLUSTER) || promise == ROLLOUT))
            }
            Self::ClusterCannotBeFormed { .. }
            | Self::PodsStartOneAtATime { .. }
            | Self::NeverFormed { .. } => any(&[HOOKS, FORMATION, ROLLOUT]) || any(&CLUSTER),
            Self::ServicePortDoesNotExist { service, .. }
            | Self::ServicePortIsClosed { service, .. }
            | Self::ServiceSelectsNoServer { service, .. } => {
                (any(&[services::NAME, CLIENTS]) && about(service)) || promise == HOOKS
            }
            Self::JobPodsInService { services, ready, .. } => {
                // A pod that has ended is no endpoint, so clients are kept out by something else.
                let of_services = promise == services::NAME || (promise == CLIENTS && *ready);
                // A budget with the Services' selector counts these pods, too.
                let of_budget = promise == disruption_budget::NAME
                    && violation.expected == disruption_budget::ONLY_SERVERS;
                (of_services && services.iter().any(|service| about(service))) || of_budget
            }
            Self::ReplicasCannotAuthenticate { .. } | Self::ReplicaHasAStalePassword { .. } => any(&[
                HOOKS,
                ROLLOUT,
                replication::NAME,
                topology::NAME,
                readiness::NAME,
                last_copy::NAME,
                step_back::NAME,
                DATA,
                LOAD,
            ]),
            Self::PasswordIsRefused { .. } | Self::PasswordEndsWithNewline { .. } => any(&[
                HOOKS,
                ROLLOUT,
                FORMATION,
                reachability::NAME,
                readiness::NAME,
                password::NAME,
                replication::NAME,
            ]),
            Self::AnnouncesWrongAddress { .. } => any(&[HOOKS, ROLLOUT, FORMATION, CLIENTS]) || any(&CLUSTER),
            Self::ServerCannotWrite { .. } => any(&[
                persistence::NAME,
                reachability::NAME,
                readiness::NAME,
                ROLLOUT,
                DATA,
                LOAD,
                AVAILABILITY,
            ]),
            Self::MaxmemoryRefusesWrites { .. } | Self::KeysWereEvicted { .. } => {
                any(&[DATA, LOAD, AVAILABILITY])
            }
            Self::DataIsNotPersistent { .. } => {
                any(&[DATA, LOAD])
                    || (promise == persistence::NAME && violation.expected != persistence::APPENDS)
            }
            Self::PersistenceIsOff { .. } => {
                any(&[DATA, LOAD])
                    || (promise == persistence::NAME && violation.expected == persistence::APPENDS)
            }
            Self::NodeIdentityIsLost { .. } => {
                any(&CLUSTER) || any(&[HOOKS, ROLLOUT, DATA, LOAD, AVAILABILITY, history::NAME])
            }
            Self::SlotsAreUncovered { .. } | Self::SlotsAreUnassigned { .. } => {
                any(&CLUSTER) || any(&[HOOKS, ROLLOUT, DATA, LOAD, AVAILABILITY])
            }
            Self::HookWaits { hook, .. } | Self::HookFails { hook, .. } => promise == HOOKS && about(hook),
            Self::ReadinessProbeFails { .. } => any(&[readiness::NAME, ROLLOUT, HOOKS, services::NAME]),
            Self::FieldIsImmutable { .. } | Self::DeploymentIsRefused { .. } => promise == DEPLOYMENT,
            Self::HookHidesItsFailure { .. } => {
                any(&CLUSTER) || any(&[drain::NAME, step_back::NAME, history::NAME, ROLLOUT, DATA, LOAD])
            }
            Self::RemovedNodesAreNotForgotten { .. } => any(&[
                cluster_state::NAME,
                slot_coverage::NAME,
                topology::NAME,
                bus::NAME,
                forgotten::NAME,
                history::NAME,
                readiness::NAME,
            ]),
            Self::PrimaryHasNoSlots { .. } => any(&[
                cluster_state::NAME,
                slot_coverage::NAME,
                topology::NAME,
                balance::NAME,
                step_back::NAME,
            ]),
            Self::KeysAreGone { .. } => any(&[DATA, LOAD]),
        }
    }

    /// Returns true if this is a defect of the chart whatever else went wrong in the trial.
    pub fn stands_alone(&self) -> bool {
        matches!(
            self,
            Self::ServicePortDoesNotExist { .. }
                | Self::ServiceSelectsNoServer { .. }
                | Self::JobPodsInService { .. }
                | Self::ReplicasCannotAuthenticate { .. }
                | Self::ProbeNeedsWhatTheImageLacks { .. }
        )
    }
}

/// Returns true if the promise cannot hold while servers do not run.
fn stops_servers(promise: &str) -> bool {
    CLUSTER.contains(&promise)
        || (RUNNING.contains(&promise) && promise != PODS)
        || [services::NAME, disruption_budget::NAME, CLIENTS].contains(&promise)
}

/// Returns true if the violation is about the hook `name`, which also makes the hook's pods.
fn hooks_of(violation: &Violation, name: &str) -> bool {
    violation.check == HOOKS && names(&violation.subject, name)
}

/// Returns true if `subject`, such as `Service vk` or `vk-0`, is about the object `name`.
fn names(subject: &str, name: &str) -> bool {
    let last = |text: &str| text.rsplit(' ').next().unwrap_or_default().to_owned();
    subject == name || last(subject) == last(name)
}

/// Returns true if two pods belong to one set. Their template is one, so each lacks what the
/// other's image or command lacks.
fn are_siblings(subject: &str, name: &str) -> bool {
    fn set(text: &str) -> &str {
        let pod = text.rsplit(' ').next().unwrap_or_default();
        match pod.rsplit_once('-') {
            Some((set, ordinal)) if ordinal.bytes().all(|byte| byte.is_ascii_digit()) => set,
            _ => pod,
        }
    }
    set(subject) == set(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(promise: &str, subject: &str) -> Violation {
        Violation::new(promise, subject, "x", "y")
    }

    #[test]
    fn an_image_that_one_pod_lacks_is_lacked_by_its_siblings() {
        let cause = Cause::ImageCannotBeHad {
            pod: "vk-0".to_owned(),
            container: "peers".to_owned(),
            image: "tools:1".to_owned(),
            message: "not found".to_owned(),
        };
        assert!(cause.explains(&broken(PODS, "pod vk-3")));
        assert!(!cause.explains(&broken(PODS, "pod vk-cluster-init-x7k2p")));
    }

    #[test]
    fn a_service_that_selects_no_server_explains_what_clients_see() {
        let cause = Cause::ServiceSelectsNoServer {
            service: "vk".to_owned(),
            label: "role=primary".to_owned(),
        };
        assert!(cause.explains(&broken(client::NAME, "Service vk")));
    }

    #[test]
    fn job_pods_in_a_service_explain_that_service_only() {
        let cause = Cause::JobPodsInService {
            services: vec!["vk".to_owned()],
            pod: "vk-cluster-init".to_owned(),
            ready: false,
        };
        assert!(cause.explains(&broken("services", "Service vk")));
        assert!(!cause.explains(&broken(client::NAME, "Service vk")));
        assert!(!cause.explains(&broken("services", "Service vk-headless")));
        for promise in [
            "replication",
            "topology",
            "password",
            "restarts",
            "data",
            "cluster_state",
            "hooks",
        ] {
            assert!(!cause.explains(&broken(promise, "vk-0")), "{promise}");
        }
    }

    #[test]
    fn a_crash_explains_what_its_own_pod_breaks() {
        let cause = Cause::ServerCrashes {
            pod: "vk-0".to_owned(),
            exit_code: Some(1),
            last_words: Vec::new(),
        };
        assert!(cause.explains(&broken(PODS, "vk-0")));
        assert!(!cause.explains(&broken(PODS, "vk-cluster-init-x")));
        assert!(cause.explains(&broken(HOOKS, "vk-cluster-init")));
        assert!(!cause.explains(&broken("security", "vk-0")));
    }
}
